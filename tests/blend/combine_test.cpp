// SPDX-License-Identifier: MIT
// Also the kernels `weighted_sums` and `weighted_row_sums` of every backend.
#include <crayon/blend/combine.hpp>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/simd/xsimd_static.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

/// Every element against its sum in double, and nothing written beside them.
template <class B, class E, class P>
void check_combination(const P& source, const std::vector<lora_adapter<E>>& adapters,
                       const std::vector<std::size_t>& slots, std::size_t rank, rng& random) {
  blend::combination<B, E> combine;
  for (std::size_t i = 0; i < source.sites(); ++i) {
    std::size_t columns = 0;
    for (const std::size_t k : slots) columns += source.rank(k, i);
    std::vector<float> m_b(rank * columns), m_a(rank * columns);
    for (float& x : m_b) x = random.normal();
    for (float& x : m_a) x = random.normal();
    lora_adapter<E> out({{"q", source.out(i), source.in(i), rank, 1.0F}});
    for (const auto m : {out.a(0), out.b(0)}) {
      for (std::size_t j = 0; j < m.size(); ++j) m.data[j] = from_float<E>(77);
    }
    REQUIRE(combine.apply(source, i, slots, {m_b.data(), rank, columns},
                          {m_a.data(), rank, columns}, out.b(0), out.a(0)));
    const auto check = [&](E found, double sum, double size) {
      const double bound =
          double{unit_roundoff<E>} * std::abs(sum) + 8 * double{unit_roundoff<float>} * size + 1e-7;
      return std::abs(double{to_float(found)} - sum) <= bound;
    };
    bool good = true;
    for (std::size_t q = 0; q < rank; ++q) {
      for (std::size_t j = 0; j < source.in(i); ++j) {
        double sum = 0, size = 0;
        std::size_t c = 0;
        for (const std::size_t k : slots) {
          const auto at = adapters[k].find(source.module(i));
          for (std::size_t r = 0; r < source.rank(k, i); ++r, ++c) {
            const double x =
                double{m_a[q * columns + c]} * double{to_float(adapters[k].factors(*at).a(r, j))};
            sum += x, size += std::abs(x);
          }
        }
        good &= check(out.a(0)(q, j), sum, size);
      }
      for (std::size_t j = 0; j < source.out(i); ++j) {
        double sum = 0, size = 0;
        std::size_t c = 0;
        for (const std::size_t k : slots) {
          const auto at = adapters[k].find(source.module(i));
          for (std::size_t r = 0; r < source.rank(k, i); ++r, ++c) {
            const double x =
                double{m_b[q * columns + c]} * double{to_float(adapters[k].factors(*at).b(j, r))};
            sum += x, size += std::abs(x);
          }
        }
        good &= check(out.b(0)(j, q), sum, size);
      }
    }
    INFO(source.out(i) << " x " << source.in(i) << ", " << slots.size() << " slots of rank "
                       << source.rank(slots.empty() ? 0 : slots[0], i) << " to rank " << rank);
    CHECK(good);
  }
}

template <class B, class E>
void check_pools() {
  rng random(51);
  // in a multiple of the tile and not, ranks that divide it and not, odd ones, more than a vector
  for (const std::size_t rank : std::vector<std::size_t>{1, 2, 3, 4, 8, 16}) {
    const std::vector<adapter::site_shape> shapes{{"q", 37, 128, rank, 1.0F},
                                                  {"k", 64, 70, rank, 1.0F},
                                                  {"v", 1, 64, rank, 1.0F},
                                                  {"o", 129, 1, rank, 1.0F}};
    std::vector<lora_adapter<E>> adapters;
    for (int k = 0; k < 5; ++k) adapters.push_back(random_adapter<E>(shapes, random));
    const auto p = *pool<E>::build(adapters, {}, {}, 64);
    for (const std::size_t made : std::vector<std::size_t>{1, 2, 4, 7, 8, 21}) {
      check_combination<B, E>(p, adapters, {0, 1, 2, 3, 4}, made, random);
      check_combination<B, E>(p, adapters, {1, 4}, made, random);
    }
    check_combination<B, E>(p, adapters, {}, 3, random);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("combinations of ranks, in every backend", "[combine]", simd::scalar,
                   simd::highway_static, simd::xsimd_static<>) {
  check_pools<TestType, float>();
  check_pools<TestType, bf16>();
  check_pools<TestType, f16>();
}

TEST_CASE("combinations of ranks, on every instruction set of this machine", "[combine]") {
  const auto targets = simd::highway_dynamic::targets();
  for (const auto target : targets) {
    INFO(target);
    REQUIRE(simd::highway_dynamic::use_target(target));
    check_pools<simd::highway_dynamic, float>();
    check_pools<simd::highway_dynamic, bf16>();
    check_pools<simd::highway_dynamic, f16>();
  }
  simd::highway_dynamic::use_target(targets[0]);
}

TEST_CASE("combinations of adapters with other sites and ranks", "[combine]") {
  rng random(52);
  for (int repeat = 0; repeat < 5; ++repeat) {
    auto adapters = random_foreign<bf16>(random, 4);
    const auto copies = adapters;
    const auto set = *adapter_set<bf16>::build(std::move(adapters));
    check_combination<simd::highway_static, bf16>(set, copies, {0, 1, 2, 3}, 3, random);
  }
}

TEMPLATE_TEST_CASE("values that are not finite are found", "[combine]", float, bf16, f16) {
  std::vector<TestType> values(37, from_float<TestType>(-3));
  values[5] = from_float<TestType>(60000);
  CHECK(blend::all_finite(values.data(), values.size()));
  for (const float x :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::size_t at : std::vector<std::size_t>{0, 20, 36}) {
      auto broken = values;
      broken[at] = from_float<TestType>(x);
      CHECK_FALSE(blend::all_finite(broken.data(), broken.size()));
    }
  }
}
