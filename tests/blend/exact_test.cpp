// SPDX-License-Identifier: MIT
// The laws of the exact policies, activations and concat, over random shapes, ranks and weights.
#include <crayon/blend/activations.hpp>

#include <crayon/blend/concat.hpp>

#include <string_view>
#include <vector>

#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;
using blend::activations;
using blend::concat;

namespace {

template <class Blended, element E>
void check_exact(const Blended& blended, const std::vector<lora_adapter<E>>& adapters,
                 const std::vector<weighted_slot>& weights) {
  for (std::size_t i = 0; i < blended.size(); ++i) {
    const auto expected = exact_sum(adapters, weights, blended.module(i));
    auto actual = delta_at(blended, i);
    actual.resize(expected.size());  // a sum of no parts is empty
    CHECK(distance(actual, expected) <= tolerance(adapters, weights, blended.module(i)));
  }
}

/// A source that can do nothing but copy.
template <element E>
struct copied_source {
  using element_type = E;
  const adapter_set<E>& set;

  std::size_t size() const { return set.size(); }
  std::size_t sites() const { return set.sites(); }
  std::string_view module(std::size_t i) const { return set.module(i); }
  std::size_t out(std::size_t i) const { return set.out(i); }
  std::size_t in(std::size_t i) const { return set.in(i); }
  adapter::site_kind kind(std::size_t i) const { return set.kind(i); }
  std::size_t rank(std::size_t slot, std::size_t i) const { return set.rank(slot, i); }
  float scale(std::size_t slot, std::size_t i) const { return set.scale(slot, i); }
  void copy_a(std::size_t slot, std::size_t i, matrix_view<E> to) const { set.copy_a(slot, i, to); }
  void copy_b(std::size_t slot, std::size_t i, matrix_view<E> to) const { set.copy_b(slot, i, to); }
};

}  // namespace

TEMPLATE_TEST_CASE("activations and concat are the exact sum", "", float, bf16, f16) {
  rng random(11);
  for (int repeat = 0; repeat < 25; ++repeat) {
    const std::size_t count = 1 + random.below(6);
    const random_pool<TestType> p(random, count);
    const auto weights = random_weights(random, count);
    const auto kept = activations::blend(p.pool, weights);
    const auto joined = concat::blend(p.pool, weights);
    REQUIRE(kept);
    REQUIRE(joined);
    REQUIRE(kept->size() == p.pool.sites());
    check_exact(*kept, p.adapters, weights);
    check_exact(*joined, p.adapters, weights);
  }
}

TEMPLATE_TEST_CASE("adapters of other sites, ranks and scales blend exactly", "", float, bf16) {
  rng random(12);
  for (int repeat = 0; repeat < 25; ++repeat) {
    const std::size_t count = 1 + random.below(5);
    auto adapters = random_foreign<TestType>(random, count);
    const auto weights = random_weights(random, count);
    std::vector<lora_adapter<TestType>> copies = adapters;
    const auto set = adapter_set<TestType>::build(std::move(copies));
    REQUIRE(set);
    const auto kept = activations::blend(*set, weights);
    const auto joined = concat::blend(*set, weights);
    REQUIRE(kept);
    REQUIRE(joined);
    check_exact(*kept, adapters, weights);
    check_exact(*joined, adapters, weights);
  }
}

TEMPLATE_TEST_CASE("one-hot weights give that adapter back", "", float, bf16, f16) {
  rng random(13);
  const random_pool<TestType> p(random, 4);
  for (std::size_t k = 0; k < 4; ++k) {
    std::vector<weighted_slot> weights;
    for (std::size_t j = 0; j < 4; ++j) weights.push_back({j, j == k ? 1.0F : 0.0F});
    const auto kept = activations::blend(p.pool, weights);
    const auto joined = concat::blend(p.pool, weights);
    for (std::size_t i = 0; i < p.pool.sites(); ++i) {
      REQUIRE(kept->parts(i).size() == 1);
      CHECK(delta_at(*kept, i) == delta_at(p.adapters[k], i));
      CHECK(joined->shape(i).rank == p.pool.shapes()[i].rank);
      CHECK(joined->shape(i).scale == 1);
    }
    check_exact(*joined, p.adapters, weights);
  }
}

TEST_CASE("equal adapters whose weights sum to one are that adapter") {
  rng random(14);
  const auto one = random_adapter<float>(random_shapes(random), random);
  const std::vector<lora_adapter<float>> adapters(3, one);
  const auto p = pool<float>::build(adapters, {}, {});
  const std::vector<weighted_slot> weights{{0, 0.5F}, {1, 0.75F}, {2, -0.25F}};
  const auto kept = activations::blend(*p, weights);
  const auto joined = concat::blend(*p, weights);
  for (std::size_t i = 0; i < one.size(); ++i) {
    const double bound = tolerance(adapters, weights, one.module(i));
    CHECK(distance(delta_at(*kept, i), delta_at(one, i)) <= bound);
    CHECK(distance(delta_at(*joined, i), delta_at(one, i)) <= bound);
  }
}

TEMPLATE_TEST_CASE("negated weights negate the change exactly", "", float, bf16, f16) {
  rng random(15);
  const random_pool<TestType> p(random, 3);
  auto weights = random_weights(random, 3);
  auto minus = weights;
  for (auto& w : minus) w.weight = -w.weight;
  for (std::size_t i = 0; i < p.pool.sites(); ++i) {
    auto kept = delta_at(*activations::blend(p.pool, minus), i);
    auto joined = delta_at(*concat::blend(p.pool, minus), i);
    for (double& x : kept) x = -x;
    for (double& x : joined) x = -x;
    CHECK(kept == delta_at(*activations::blend(p.pool, weights), i));
    CHECK(joined == delta_at(*concat::blend(p.pool, weights), i));
  }
}

TEST_CASE("the order of the adapters changes nothing but the order of the sum") {
  rng random(16);
  const random_pool<float> p(random, 5);
  auto weights = random_weights(random, 5);
  std::vector<std::size_t> order{0, 1, 2, 3, 4};
  random.shuffle(order);
  std::vector<lora_adapter<float>> permuted;
  std::vector<weighted_slot> theirs;
  for (std::size_t k = 0; k < 5; ++k) {
    permuted.push_back(p.adapters[order[k]]);
    theirs.push_back({k, weights[order[k]].weight});
  }
  const auto q = pool<float>::build(permuted, {}, {});
  check_exact(*activations::blend(*q, theirs), p.adapters, weights);
  check_exact(*concat::blend(*q, theirs), p.adapters, weights);
  random.shuffle(weights);  // the slots of one pool named in another order
  check_exact(*activations::blend(p.pool, weights), p.adapters, weights);
  check_exact(*concat::blend(p.pool, weights), p.adapters, weights);
}

TEST_CASE("all weights zero is the adapter that changes nothing") {
  rng random(17);
  const random_pool<float> p(random, 2);
  const std::vector<weighted_slot> weights{{0, 0}, {1, -0.0F}};
  const auto kept = activations::blend(p.pool, weights);
  const auto joined = concat::blend(p.pool, weights);
  REQUIRE(kept);
  REQUIRE(joined);
  for (std::size_t i = 0; i < p.pool.sites(); ++i) {
    CHECK(kept->parts(i).empty());
    CHECK(joined->shape(i).rank == 1);
    CHECK(norm(delta_at(*joined, i)) == 0);
  }
}

TEST_CASE("the parts survive the move of their owner") {
  rng random(18);
  const random_pool<float> p(random, 2);
  auto kept = activations::blend(p.pool, std::vector<weighted_slot>{{0, 0.5F}, {1, 0.25F}});
  const auto before = delta_at(*kept, 0);
  const blend::weighted_adapters<float> moved = *std::move(kept);
  CHECK(delta_at(moved, 0) == before);
}

TEST_CASE("a view is the blend without its copies") {
  rng random(42);
  const auto adapters = random_foreign<bf16>(random, 4);
  const auto set = *adapter_set<bf16>::build(adapters);
  const auto weights = random_weights(random, 4);
  const auto copied = *activations::blend(set, weights);
  const auto viewed = *activations::view(set, weights);
  REQUIRE(viewed.size() == copied.size());
  for (std::size_t i = 0; i < viewed.size(); ++i) {
    CHECK(viewed.module(i) == copied.module(i));
    REQUIRE(viewed.parts(i).size() == copied.parts(i).size());
    CHECK(delta_at(viewed, i) == delta_at(copied, i));
    for (const auto& part : viewed.parts(i)) {
      bool found = false;
      for (std::size_t k = 0; k < set.size(); ++k) found |= set.factors(k, i).a.data == part.a.data;
      CHECK(found);
    }
  }
  CHECK_FALSE(activations::view(set, std::vector<weighted_slot>{{9, 1.0F}}));
}

TEST_CASE("concat blends into an adapter of its shapes and refuses another") {
  rng random(19);
  const random_pool<float> p(random, 3);
  const std::vector<weighted_slot> weights{{0, 0.5F}, {2, 0.25F}};
  lora_adapter<float> out(concat::shapes(p.pool, weights));
  REQUIRE(concat::blend_into(p.pool, weights, out));
  CHECK(same(out, *concat::blend(p.pool, weights)));
  const std::vector<weighted_slot> none{{0, 0.0F}};
  lora_adapter<float> other(p.pool.shapes());
  CHECK(concat::blend_into(p.pool, weights, other).error().code == errc::bad_shape);
  lora_adapter<float> zero(concat::shapes(p.pool, none));
  zero.a(0)(0, 0) = 1;
  zero.b(0)(0, 0) = 1;
  REQUIRE(concat::blend_into(p.pool, none, zero));
  CHECK(norm(delta_at(zero, 0)) == 0);
}

TEMPLATE_TEST_CASE("concat has the same bits in every backend, source and number of threads", "",
                   float, bf16, f16) {
  rng random(41);
  // Ranks of 16, 32 and 64 bytes, and some whose rows run over the ends of tiles and blocks.
  for (const std::size_t rank : {1U, 4U, 7U, 8U, 12U, 16U, 32U}) {
    const std::vector<adapter::site_shape> shapes{{"first", 130, 61, rank, 0.5F},
                                                  {"second", 33, 400, rank, 2.0F}};
    std::vector<lora_adapter<TestType>> adapters;
    for (int k = 0; k < 4; ++k) adapters.push_back(random_adapter<TestType>(shapes, random));
    const auto tiled = *pool<TestType>::build(adapters, {}, {});
    const auto set = *adapter_set<TestType>::build(adapters);
    const std::vector<weighted_slot> weights{{2, -0.5F}, {1, 0.0F}, {0, 0.25F}, {3, 1.5F}};
    thread_pool threads(3);

    lora_adapter<TestType> expected(blend::concat::shapes(set, weights));
    std::size_t first = 0;
    for (const auto& [slot, weight] : weights) {
      if (weight == 0) continue;
      for (std::size_t i = 0; i < 2; ++i) {
        const auto f = adapters[slot].factors(i);
        for (std::size_t r = 0; r < rank; ++r) {
          for (std::size_t j = 0; j < f.a.cols; ++j) expected.a(i)(first + r, j) = f.a(r, j);
          for (std::size_t o = 0; o < f.b.rows; ++o) {
            expected.b(i)(o, first + r) =
                from_float<TestType>(weight * f.scale * to_float(f.b(o, r)));
          }
        }
      }
      first += rank;
    }
    const auto check = [&](const auto& made) {
      REQUIRE(made);
      CHECK(same(*made, expected));
    };
    using dynamic = blend::basic_concat<simd::highway_dynamic>;
    check(blend::concat::blend(tiled, weights));
    check(blend::concat::blend(set, weights, threads));
    check(blend::concat::blend(copied_source<TestType>{set}, weights, threads));
    check(dynamic::blend(tiled, weights, threads));
    check(dynamic::blend(set, weights));
    check(dynamic::blend(copied_source<TestType>{set}, weights));
  }
}

TEST_CASE("a factor that does not fit its type after scaling is an error, not infinity") {
  lora_adapter<f16> adapter({{"q", 1, 1, 1, 2.0F}});
  adapter.b(0)(0, 0) = from_float<f16>(60000);
  const std::vector<lora_adapter<f16>> adapters{adapter};
  const auto p = pool<f16>::build(adapters, {}, {});
  const auto blended = concat::blend(*p, std::vector<weighted_slot>{{0, 1}});
  REQUIRE(!blended);
  CHECK(blended.error().text == "adapter 0 times 2.000000 is too large for F16 at q");
  CHECK(concat::blend(*p, std::vector<weighted_slot>{{0, 0.5F}}));
}

TEST_CASE("exact policies refuse bad weights") {
  rng random(20);
  const random_pool<float> p(random, 2);
  for (const auto& weights : std::vector<std::vector<weighted_slot>>{
           {}, {{2, 1.0F}}, {{0, 1.0F}, {0, 1.0F}}, {{0, std::nanf("")}}}) {
    CHECK_FALSE(activations::blend(p.pool, weights));
    CHECK_FALSE(concat::blend(p.pool, weights));
  }
}
