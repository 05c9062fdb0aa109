// SPDX-License-Identifier: MIT
#include <crayon/blend/merge.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <utility>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/simd/xsimd_static.hpp>

#include "../adapter/random_adapter.hpp"
#include "../catch.hpp"

using namespace crayon;
using adapter::base_matrix;

namespace {

template <class B, class E, class F>
struct merge_case {
  using backend = B;
  using base = E;
  using factor = F;
};
using merge_cases = std::tuple<
    merge_case<simd::scalar, float, float>, merge_case<simd::highway_static, float, bf16>,
    merge_case<simd::highway_static, bf16, float>, merge_case<simd::highway_static, bf16, bf16>,
    merge_case<simd::highway_static, f16, float>, merge_case<simd::highway_dynamic, float, float>,
    merge_case<simd::xsimd_static<>, float, float>>;

/// A base model: for each site a matrix in rows that are longer than they need be.
template <class E>
struct base_model {
  std::vector<std::vector<E>> memory;
  std::vector<base_matrix<E>> matrices;

  [[nodiscard]] std::span<const base_matrix<E>> view() const { return matrices; }
};

template <class E, class P>
base_model<E> random_base(const P& pool, rng& random) {
  base_model<E> made;
  for (std::size_t i = 0; i < pool.sites(); ++i) {
    const bool transposed = random.below(2) == 0;
    const std::size_t rows = transposed ? pool.in(i) : pool.out(i);
    const std::size_t cols = transposed ? pool.out(i) : pool.in(i);
    const std::size_t stride = cols + random.below(3);
    auto& m = made.memory.emplace_back(rows * stride);
    for (auto& e : m) e = from_float<E>(random.normal());
    made.matrices.push_back(
        {std::string(pool.module(i)), {m.data(), rows, cols, stride}, transposed});
  }
  return made;
}

template <class E>
bool same_bits(const base_model<E>& a, const base_model<E>& b) {
  for (std::size_t i = 0; i < a.memory.size(); ++i) {
    if (std::memcmp(a.memory[i].data(), b.memory[i].data(), a.memory[i].size() * sizeof(E)) != 0) {
      return false;
    }
  }
  return true;
}

/// Three adapters whose sites, ranks and scales differ.
template <class F>
adapter::adapter_set<F> foreign_adapters(rng& random) {
  std::vector<adapter::lora_adapter<F>> adapters;
  std::vector<adapter::site_shape> all;
  for (std::size_t s = 0; s < 4; ++s) {
    all.push_back({"m" + std::to_string(s), 1 + random.below(60), 1 + random.below(300), 1, 1.0F});
  }
  all[3].out = 257;
  for (std::size_t k = 0; k < 3; ++k) {
    std::vector<adapter::site_shape> sites;
    for (auto s : all) {
      s.rank = 1 + random.below(5);
      s.scale = 0.25F + random.uniform();
      if (sites.empty() || random.below(3) != 0) sites.push_back(s);
    }
    adapters.push_back(crayon_test::random_adapter<F>(std::move(sites), random));
  }
  return *adapter::adapter_set<F>::build(std::move(adapters));
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("a merge is the base plus the exact sum, and comes off bit by bit", "",
                        merge_cases) {
  using E = typename TestType::base;
  using F = typename TestType::factor;
  using merge = blend::merge<typename TestType::backend>;
  const double epsilon = sizeof(E) == 4 ? 0x1p-20 : std::is_same_v<E, bf16> ? 0x1p-8 : 0x1p-11;
  rng random(31);
  for (int repeat = 0; repeat < 8; ++repeat) {
    const auto set = foreign_adapters<F>(random);
    const auto original = random_base<E>(set, random);
    base_model<E> base = original;
    for (std::size_t i = 0; i < base.memory.size(); ++i) {
      base.matrices[i].w.data = base.memory[i].data();
    }
    const std::vector<weighted_slot> w{
        {2, random.normal()}, {0, repeat % 2 == 0 ? 0 : random.normal()}, {1, -random.uniform()}};
    auto merged = merge::blend(set, w, base.view());
    REQUIRE(merged);
    for (std::size_t i = 0; i < set.sites(); ++i) {
      INFO(set.module(i));
      std::vector<double> sum(set.out(i) * set.in(i));
      for (const auto& [slot, weight] : w) {
        if (const auto at = set.adapter(slot).find(set.module(i))) {
          crayon_test::add_delta(sum, set.adapter(slot).factors(*at), double{weight});
        }
      }
      const auto& m = base.matrices[i];
      double worst = 0;
      for (std::size_t o = 0; o < set.out(i); ++o) {
        for (std::size_t j = 0; j < set.in(i); ++j) {
          const auto at = [&](const base_matrix<E>& b) {
            return double{to_float(b.transposed ? b.w(j, o) : b.w(o, j))};
          };
          base_matrix<E> before = m;
          before.w.data = const_cast<E*>(original.memory[i].data());
          const double want = at(before) + sum[o * set.in(i) + j];
          worst = std::max(worst, std::abs(at(m) - want) / (std::abs(want) + 4));
        }
      }
      CHECK(worst <= epsilon);
    }
    // Two threads give the same bits.
    base_model<E> again = original;
    for (std::size_t i = 0; i < again.memory.size(); ++i) {
      again.matrices[i].w.data = again.memory[i].data();
    }
    thread_pool threads(2);
    REQUIRE(merge::add(set, w, again.view(), threads));
    CHECK(same_bits(again, base));
    CHECK_FALSE(same_bits(base, original));
    merged->restore();
    CHECK(same_bits(base, original));
    CHECK(merged->size() == 0);
  }
}

TEST_CASE("only what a blend changes is touched and kept") {
  rng random(5);
  const auto set = *adapter::adapter_set<float>::build(
      {crayon_test::random_adapter<float>({{"a", 3, 5, 2, 1.0F}}, random),
       crayon_test::random_adapter<float>({{"b", 4, 6, 1, 1.0F}}, random)});
  auto base = random_base<float>(set, random);
  const auto before = base;
  base.matrices.pop_back();  // "b" is not there, and not needed
  auto merged =
      blend::merge<>::blend(set, std::vector<weighted_slot>{{0, 1.0F}, {1, 0.0F}}, base.view());
  REQUIRE(merged);
  CHECK(merged->size() == 1);
  CHECK(merged->bytes() == 3 * 5 * sizeof(float));
  CHECK(base.memory[1] == before.memory[1]);
  CHECK(
      blend::merge<>::blend(set, std::vector<weighted_slot>{{1, 1.0F}}, base.view()).error().text ==
      "the base model has no b to merge into");
}

TEST_CASE("a merge that does not fit leaves the base as it was") {
  rng random(6);
  const auto set = *adapter::adapter_set<float>::build(
      {crayon_test::random_adapter<float>({{"a", 3, 5, 2, 1.0F}, {"b", 4, 6, 1, 1.0F}}, random),
       crayon_test::random_adapter<float>({{"b", 4, 6, 1, 1.0F}}, random)});
  auto base = random_base<f16>(set, random);
  const auto before = base;
  const auto text = [&](std::vector<weighted_slot> w) {
    return blend::merge<>::blend(set, w, base.view()).error().text;
  };
  CHECK(text({{0, 1.0F}, {1, 1e6F}}) ==
        "adapter 1 with weight 1000000.000000 makes the blend at b too large for F16");
  CHECK(text({{0, std::numeric_limits<float>::infinity()}}) ==
        "weight of adapter 0 is inf, needs a finite number");
  std::swap(base.matrices[1].w.rows, base.matrices[1].w.cols);
  base.matrices[1].w.stride = base.matrices[1].w.cols;
  CHECK(text({{0, 1.0F}, {1, 1.0F}}) ==
        "b: the adapters are for (4, 6), the base model has (6, 4)");
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(std::memcmp(base.memory[i].data(), before.memory[i].data(),
                      base.memory[i].size() * sizeof(f16)) == 0);
  }
}
