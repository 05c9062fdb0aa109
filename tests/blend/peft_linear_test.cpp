// SPDX-License-Identifier: MIT
#include <crayon/blend/peft_linear.hpp>

#include <cmath>
#include <vector>

#include <crayon/blend/linear.hpp>
#include <crayon/blend/peft_sparse.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/xsimd_static.hpp>

#include "../model/allocations.hpp"
#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

std::vector<weighted_slot> signed_weights() {
  return {{0, 0.5F}, {1, -0.25F}, {2, 0.0F}, {3, 2}};
}

}  // namespace

TEMPLATE_TEST_CASE("peft_linear sums factors by the root of weight times scale", "", simd::scalar,
                   simd::highway_static, simd::xsimd_static<>) {
  rng random(61);
  const auto run = [&](auto zero) {
    using E = decltype(zero);
    const random_pool<E> p(random, 4);
    const auto weights = signed_weights();
    const auto blended = blend::peft_linear<TestType>::blend(p.pool, weights);
    REQUIRE(blended);
    for (std::size_t i = 0; i < blended->size(); ++i) {
      CHECK(blended->shape(i).scale == 1);
      for (const bool of_a : {true, false}) {
        const auto to = of_a ? blended->factors(i).a : blended->factors(i).b;
        std::vector<double> sum(to.size(), 0.0), actual;
        for (const auto& [slot, weight] : weights) {
          const auto f = p.adapters[slot].factors(i);
          const double root = std::sqrt(std::abs(double{weight} * double{f.scale}));
          for (std::size_t j = 0; j < sum.size(); ++j) {
            sum[j] +=
                (of_a && weight < 0 ? -root : root) * double{to_float((of_a ? f.a : f.b).data[j])};
          }
        }
        for (std::size_t j = 0; j < to.size(); ++j) actual.push_back(to_float(to.data[j]));
        CHECK(distance(actual, sum) <= 2 * double{unit_roundoff<E>} * norm(sum) + 1e-6);
      }
    }
  };
  run(float{});
  run(bf16{});
  run(f16{});
}

TEST_CASE("N equal adapters of weight 1/N come out of peft_linear N times as strong") {
  rng random(62);
  const auto one = random_adapter<float>(random_shapes(random), random);
  const std::vector<lora_adapter<float>> adapters(4, one);
  const auto p = pool<float>::build(adapters, {}, {});
  const auto weights = blend::slots_of(std::vector<float>(4, 0.25F));
  const auto blended = blend::peft_linear<>::blend(*p, weights);
  for (std::size_t i = 0; i < one.size(); ++i) {
    auto expected = delta_at(one, i);
    for (double& x : expected) x *= 4;
    CHECK(distance(delta_at(*blended, i), expected) <= 1e-5 * norm(expected));
  }
}

TEST_CASE("a set of adapters blends as their pool does, bit by bit") {
  rng random(63);
  thread_pool threads(2);
  const random_pool<bf16> p(random, 4);
  const auto set = adapter_set<bf16>::build(p.adapters);
  const auto weights = signed_weights();
  const auto of_pool = blend::peft_linear<>::blend(p.pool, weights);
  CHECK(same(*of_pool, *blend::peft_linear<>::blend(*set, weights)));
  CHECK(same(*of_pool, *blend::peft_linear<>::blend(p.pool, weights, threads)));
  CHECK(same(*of_pool, *blend::peft_linear<>::blend(*set, weights, threads)));
  CHECK(same(*blend::peft_ties::blend(p.pool, weights), *blend::peft_ties::blend(*set, weights)));
}

TEST_CASE("a bias is summed as it is: its A is a constant, not a factor to weigh or to prune") {
  rng random(64);
  const std::vector<adapter::site_shape> shapes{
      {"q.bias", 6, 1, 1, 2.0F, adapter::site_kind::bias}};
  std::vector<lora_adapter<float>> adapters;
  for (int k = 0; k < 4; ++k) {
    adapters.push_back(random_adapter<float>(shapes, random));
    adapters.back().a(0)(0, 0) = 1;
  }
  const auto p = pool<float>::build(adapters, {}, {});
  const auto weights = signed_weights();
  const auto expected = exact_sum(adapters, weights, "q.bias");
  const auto check = [&](const auto& blended) {
    REQUIRE(blended);
    CHECK(blended->factors(0).a(0, 0) == 1);
    CHECK(distance(delta_at(*blended, 0), expected) <= 1e-6 * norm(expected));
  };
  check(blend::peft_linear<>::blend(*p, weights));
  check(blend::peft_magnitude_prune::blend(*p, weights, {.density = 1}));
  const auto pruned = blend::peft_magnitude_prune::blend(*p, weights, {.density = 0.5});
  CHECK(pruned->factors(0).a(0, 0) == 1);
  CHECK(norm(delta_at(*pruned, 0)) > 0);
}

TEST_CASE("the PEFT forms allocate nothing once their workspace has grown") {
  rng random(65);
  const random_pool<bf16> p(random, 4);
  const auto set = adapter_set<bf16>::build(p.adapters);
  const auto weights = signed_weights();
  lora_adapter<bf16> out(p.pool.shapes());
  lora_adapter<bf16> to(*blend::peft_shapes(p.pool, weights, "peft_linear"));
  blend::factor_workspace<bf16> workspace;
  const auto check = [&](auto run) {
    REQUIRE(run());
    const std::size_t before = allocations();
    const auto done = run();
    CHECK(allocations() == before);
    REQUIRE(done);
  };
  check([&] { return blend::peft_linear<>::blend_into(p.pool, weights, to, workspace); });
  CHECK(same(to, *blend::peft_linear<>::blend(p.pool, weights)));
  check([&] { return blend::peft_linear<>::blend_into(*set, weights, to, workspace); });
  check([&] { return blend::peft_ties::blend_into(p.pool, weights, to, workspace); });
  CHECK(same(to, *blend::peft_ties::blend(p.pool, weights)));
  check([&] { return blend::peft_dare_linear::blend_into(*set, weights, to, workspace); });
}

TEST_CASE("the PEFT forms refuse what they cannot blend or blend into") {
  rng random(66);
  const random_pool<float> p(random, 2);
  const std::vector<weighted_slot> weights{{0, 0.5F}, {1, 0.5F}};
  blend::factor_workspace<float> workspace;
  lora_adapter<float> other({{"x", 1, 1, 1, 1.0F}, {"y", 1, 1, 1, 1.0F}});
  CHECK(blend::peft_linear<>::blend_into(p.pool, weights, other, workspace).error().code ==
        errc::bad_shape);
  lora_adapter<float> scaled(p.pool.shapes());  // of the pool's scales, not 1
  const auto refused = blend::peft_ties::blend_into(p.pool, weights, scaled, workspace);
  REQUIRE(!refused);
  CHECK(refused.error().text.find("the adapter to blend into has layers.0.q_proj") == 0);
  CHECK_FALSE(blend::peft_ties::blend(p.pool, weights, {.density = 0}));

  lora_adapter<f16> large({{"q", 1, 1, 1, 4.0F}});
  large.b(0)(0, 0) = from_float<f16>(60000);
  const std::vector<lora_adapter<f16>> adapters{large, large};
  const auto q = pool<f16>::build(adapters, {}, {});
  CHECK(blend::peft_linear<>::blend(*q, weights).error().text ==
        "adapter 0 with weight 0.500000 makes the blend at q too large for F16");
  CHECK(blend::peft_dare_linear::blend(*q, weights, {.density = 1}).error().text ==
        "adapter 0 with weight 0.500000 makes the blend at q too large for F16");
}
