// SPDX-License-Identifier: MIT
#include <crayon/blend/linear.hpp>

#include <algorithm>
#include <limits>
#include <vector>

#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/xsimd_static.hpp>

#include "../model/allocations.hpp"
#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

std::vector<weighted_slot> positive_weights(rng& random, std::size_t count) {
  std::vector<weighted_slot> weights;
  float sum = 0;
  for (std::size_t k = 0; k < count; ++k) {
    weights.push_back({k, random.below(3) == 0 && k > 0 ? 0.0F : 0.1F + random.uniform()});
    sum += weights.back().weight;
  }
  for (auto& w : weights) w.weight /= sum;
  return weights;
}

/// Every element of every factor is sum_k w_k src_k, rounded once, whatever the order of the sum.
template <element E>
void check_factors(const lora_adapter<E>& blended, const std::vector<lora_adapter<E>>& adapters,
                   const std::vector<weighted_slot>& weights) {
  const auto check = [&](auto factor_of) {
    const auto to = factor_of(blended);
    for (std::size_t j = 0; j < to.size(); ++j) {
      double sum = 0, size = 0;
      for (const auto& [slot, weight] : weights) {
        const double term = double{weight} * double{to_float(factor_of(adapters[slot]).data[j])};
        sum += term;
        size += std::abs(term);
      }
      const double bound = double{unit_roundoff<E>} * std::abs(sum) +
                           8 * double{unit_roundoff<float>} * size + 1e-12;
      if (!(std::abs(double{to_float(to.data[j])} - sum) <= bound)) {
        FAIL_CHECK("element " << j << " is " << to_float(to.data[j]) << ", expected " << sum);
        return;
      }
    }
  };
  for (std::size_t i = 0; i < blended.size(); ++i) {
    check([i](const auto& x) { return x.factors(i).a; });
    check([i](const auto& x) { return x.factors(i).b; });
    CHECK(blended.shape(i) == adapters[0].shape(i));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("linear sums each factor, in every backend and element type", "", simd::scalar,
                   simd::highway_static, simd::xsimd_static<>) {
  rng random(21);
  const auto run = [&](auto zero) {
    using E = decltype(zero);
    for (int repeat = 0; repeat < 15; ++repeat) {
      const std::size_t count = 1 + random.below(9);
      const random_pool<E> p(random, count);
      const auto weights = positive_weights(random, count);
      const auto blended = blend::linear<TestType>::blend(p.pool, weights);
      REQUIRE(blended);
      check_factors(*blended, p.adapters, weights);
    }
  };
  run(float{});
  run(bf16{});
  run(f16{});
}

TEMPLATE_TEST_CASE("one-hot weights give that adapter back bit by bit", "[linear]", float, bf16,
                   f16) {
  rng random(22);
  const random_pool<TestType> p(random, 5);
  for (std::size_t k = 0; k < 5; ++k) {
    std::vector<float> w(5);
    w[k] = 1;
    const auto dense = blend::linear<simd::highway_static>::blend(p.pool, blend::slots_of(w));
    const auto sparse = blend::linear<>::blend(p.pool, std::vector<weighted_slot>{{k, 1.0F}});
    CHECK(same(*dense, p.adapters[k]));
    CHECK(same(*sparse, p.adapters[k]));
  }
}

TEST_CASE("equal adapters whose weights sum to one are that adapter, factor by factor") {
  rng random(23);
  const auto one = random_adapter<float>(random_shapes(random), random);
  const std::vector<lora_adapter<float>> adapters(4, one);
  const auto p = pool<float>::build(adapters, {}, {});
  const auto weights = positive_weights(random, 4);
  check_factors(*blend::linear<>::blend(*p, weights), adapters, weights);
  const std::vector<weighted_slot> quarters{{0, 0.25F}, {1, 0.25F}, {2, 0.25F}, {3, 0.25F}};
  CHECK(same(*blend::linear<>::blend(*p, quarters), one));
}

TEST_CASE("the error against the exact sum is the weighted covariance of the factors") {
  rng random(24);
  for (int repeat = 0; repeat < 10; ++repeat) {
    const random_pool<float> p(random, 4);
    const auto weights = positive_weights(random, 4);
    const auto blended = blend::linear<>::blend(p.pool, weights);
    for (std::size_t i = 0; i < p.pool.sites(); ++i) {
      auto expected = exact_sum(p.adapters, weights, p.pool.module(i));
      const auto mean = blended->factors(i);
      for (const auto& [slot, weight] : weights) {
        // (B_k - B)(A_k - A), through an adapter of the differences
        lora_adapter<float> difference({p.pool.shapes()[i]});
        const auto f = p.adapters[slot].factors(i);
        for (std::size_t j = 0; j < f.a.size(); ++j) {
          difference.a(0).data[j] = f.a.data[j] - mean.a.data[j];
        }
        for (std::size_t j = 0; j < f.b.size(); ++j) {
          difference.b(0).data[j] = f.b.data[j] - mean.b.data[j];
        }
        add_delta(expected, difference.factors(0), -double{weight});
      }
      CHECK(distance(delta_at(*blended, i), expected) <=
            20 * tolerance(p.adapters, weights, p.pool.module(i)));
    }
  }
}

TEST_CASE("the order of the adapters does not matter") {
  rng random(25);
  const random_pool<float> p(random, 4);
  auto weights = positive_weights(random, 4);
  random.shuffle(weights);
  check_factors(*blend::linear<>::blend(p.pool, weights), p.adapters, weights);
}

TEST_CASE("the threads do not change a bit of the result") {
  rng random(26);
  thread_pool threads(3);
  for (int repeat = 0; repeat < 10; ++repeat) {
    const random_pool<bf16> p(random, 3);
    const auto weights = positive_weights(random, 3);
    const auto alone = blend::linear<>::blend(p.pool, weights);
    const auto together = blend::linear<>::blend(p.pool, weights, threads);
    CHECK(same(*alone, *together));
  }
}

TEMPLATE_TEST_CASE("an adapter that is written past the caches has the same bits", "", float,
                   bf16) {
  rng random{24};
  const std::vector<adapter::site_shape> shapes{{"layer", 40'000, 50, 70, 1.0F},
                                                {"other", 9, 70'001, 40, 2.0F}};
  std::vector<lora_adapter<TestType>> adapters;
  for (int k = 0; k < 2; ++k) adapters.push_back(random_adapter<TestType>(shapes, random));
  REQUIRE(adapters[0].bytes() > std::size_t{8} << 20);
  const auto big = *pool<TestType>::build(adapters, {}, {});
  const std::vector<weighted_slot> weights{{0, 0.25F}, {1, 0.75F}};
  thread_pool threads(3);
  const auto serial = *blend::linear<simd::highway_dynamic>::blend(big, weights);
  const auto parallel = *blend::linear<simd::highway_dynamic>::blend(big, weights, threads);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < serial.size(); ++i) {
    const auto check = [&](auto factor_of) {
      const auto s = factor_of(serial), p = factor_of(parallel), x = factor_of(adapters[0]),
                 y = factor_of(adapters[1]);
      for (std::size_t j = 0; j < s.size(); ++j) {
        const TestType* src[] = {x.data + j, y.data + j};
        const float w[] = {0.25F, 0.75F};
        TestType expected{};
        simd::highway_dynamic::weighted_sum(weighted_rows<TestType>{w, src, 2}, &expected, 1);
        wrong += to_float(s.data[j]) != to_float(expected);
        wrong += to_float(p.data[j]) != to_float(expected);
      }
    };
    check([i](const auto& a) { return a.factors(i).a; });
    check([i](const auto& a) { return a.factors(i).b; });
  }
  CHECK(wrong == 0);
}

TEST_CASE("an adapter of weight zero is not read") {
  rng random{25};
  random_pool<float> source(random, 3);
  const std::vector<weighted_slot> two{{0, 0.5F}, {2, 0.5F}}, all{{0, 0.5F}, {1, 0.0F}, {2, 0.5F}};
  const auto expected = *blend::linear<>::blend(source.pool, two);
  for (std::size_t i = 0; i < source.pool.sites(); ++i) {
    for (auto factor : {source.pool.a(i), source.pool.b(i)}) {
      for (std::size_t t = 0; t < factor.tiles(); ++t) {
        std::fill_n(factor.at(t, 1), factor.tile, std::numeric_limits<float>::quiet_NaN());
      }
    }
  }
  const auto blended = *blend::linear<>::blend(source.pool, all);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < blended.size(); ++i) {
    const auto a = blended.factors(i).a, e = expected.factors(i).a;
    for (std::size_t j = 0; j < a.size(); ++j) wrong += !(a.data[j] == e.data[j]);
  }
  CHECK(wrong == 0);
}

TEST_CASE("blending into an adapter that exists allocates nothing") {
  rng random(27);
  const random_pool<float> p(random, 6);
  const auto weights = positive_weights(random, 6);
  lora_adapter<float> out(p.pool.shapes());
  for (std::size_t i = 0; i < out.size(); ++i) out.a(i).data[0] = 99;
  const std::size_t before = allocations();
  const auto done = blend::linear<>::blend_into(p.pool, weights, out);
  CHECK(allocations() == before);
  REQUIRE(done);
  CHECK(same(out, *blend::linear<>::blend(p.pool, weights)));
  lora_adapter<float> other({{"x", 1, 1, 1, 1.0F}});
  CHECK(blend::linear<>::blend_into(p.pool, weights, other).error().code == errc::bad_shape);
}

TEST_CASE("all weights zero gives factors of zero") {
  rng random(28);
  const random_pool<bf16> p(random, 2);
  const auto blended =
      blend::linear<simd::highway_static>::blend(p.pool, std::vector<weighted_slot>{{0, 0.0F}});
  REQUIRE(blended);
  CHECK(same(*blended, lora_adapter<bf16>(p.pool.shapes())));
}

TEST_CASE("linear refuses what it cannot blend") {
  rng random(29);
  const random_pool<float> p(random, 2);
  const auto error_of = [&](std::vector<weighted_slot> weights) {
    const auto blended = blend::linear<>::blend(p.pool, weights);
    REQUIRE(!blended);
    return blended.error().text;
  };
  CHECK(error_of({{0, 1.5F}, {1, -0.5F}}) ==
        "weight of adapter 1 is -0.500000: the linear blend takes no negative weights");
  CHECK(error_of({}) == "a blend of no adapters: no weights given");
  CHECK(error_of({{2, 1.0F}}) == "weight for adapter 2, there are 2");
  CHECK(error_of({{0, std::numeric_limits<float>::infinity()}}) ==
        "weight of adapter 0 is inf, needs a finite number");

  const std::vector<lora_adapter<float>> many(300, lora_adapter<float>({{"q", 1, 1, 1, 1.0F}}));
  const auto large = pool<float>::build(many, {}, {}, 16);
  REQUIRE(large);
  const auto blended = blend::linear<>::blend(*large, blend::slots_of(std::vector<float>(300, 1)));
  CHECK(blended.error().text == "300 weights other than zero, at most 256 in one linear blend");
}
