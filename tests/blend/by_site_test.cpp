// SPDX-License-Identifier: MIT
// A blend by weights that differ from site to site.
#include <crayon/blend/by_site.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include <crayon/adapter/mapped_pool.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/dare.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/peft_linear.hpp>
#include <crayon/blend/recompress.hpp>
#include <crayon/blend/recorded.hpp>
#include <crayon/blend/ties.hpp>
#include <crayon/core/thread_pool.hpp>

#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;

namespace by_site_tests {

/// (sites, N), each row with sum 1.
std::vector<float> random_rows(rng& random, std::size_t sites, std::size_t count) {
  std::vector<float> weights(sites * count);
  for (std::size_t i = 0; i < sites; ++i) {
    float sum = 0;
    for (std::size_t k = 0; k < count; ++k) {
      weights[i * count + k] = k > 0 && random.below(4) == 0 ? 0.0F : 0.01F + random.uniform();
      sum += weights[i * count + k];
    }
    for (std::size_t k = 0; k < count; ++k) weights[i * count + k] /= sum;
  }
  return weights;
}

template <element E>
bool same(const blend::weighted_adapters<E>& a, const blend::weighted_adapters<E>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a.module(i) != b.module(i) || delta_at(a, i) != delta_at(b, i)) return false;
  }
  return true;
}

template <class Policy>
struct of {
  using policy = Policy;
};

}  // namespace by_site_tests

using namespace by_site_tests;

TEMPLATE_TEST_CASE("equal rows are one row, one-hot rows are the adapters, for every policy", "",
                   of<blend::activations>, of<blend::concat>, of<blend::linear<>>,
                   of<blend::recompress<>>, of<blend::ties<>>, of<blend::dare<>>,
                   of<blend::peft_linear<>>, of<blend::recorded<>>) {
  using policy = typename TestType::policy;
  rng random(3);
  thread_pool threads(3);
  for (int repeat = 0; repeat < 6; ++repeat) {
    const std::size_t count = 2 + random.below(4);
    const random_pool<float> p(random, count);
    const std::size_t sites = p.pool.sites();

    const auto row = random_rows(random, 1, count);
    std::vector<float> equal;
    for (std::size_t i = 0; i < sites; ++i) equal.insert(equal.end(), row.begin(), row.end());
    const matrix_view<const float> equal_rows(equal.data(), sites, count);
    const auto once = policy::blend(p.pool, blend::slots_of(row));
    const auto each = blend::by_site<policy>(p.pool, equal_rows, 0, threads);
    REQUIRE(once);
    REQUIRE(each);
    CHECK(same(*each, *once));

    const auto rows = random_rows(random, sites, count);
    const matrix_view<const float> own(rows.data(), sites, count);
    const auto serial = blend::by_site<policy>(p.pool, own);
    const auto parallel = blend::by_site<policy>(p.pool, own, 0, threads);
    REQUIRE(serial);
    REQUIRE(parallel);
    CHECK(same(*serial, *parallel));
    if (sites > 1) CHECK_FALSE(same(*serial, *once));

    std::vector<float> hot(sites * count, 0.0F);
    std::vector<std::size_t> chosen(sites);
    for (std::size_t i = 0; i < sites; ++i) {
      chosen[i] = random.below(count);
      hot[i * count + chosen[i]] = 1;
    }
    const auto picked =
        blend::by_site<policy>(p.pool, matrix_view<const float>(hot.data(), sites, count));
    REQUIRE(picked);
    for (std::size_t i = 0; i < sites; ++i) {
      const auto expected = delta(p.adapters[chosen[i]].factors(i));
      const std::vector<weighted_slot> one{{chosen[i], 1.0F}};
      CHECK(distance(delta_at(*picked, i), expected) <=
            8 * tolerance(p.adapters, one, p.pool.module(i)));
    }
  }
}

TEMPLATE_TEST_CASE("into an adapter that is there: the same, padded with zeros where it has room",
                   "", of<blend::concat>, of<blend::linear<>>, of<blend::recompress<>>) {
  using policy = typename TestType::policy;
  rng random(4);
  thread_pool threads(3);
  for (int repeat = 0; repeat < 6; ++repeat) {
    const std::size_t count = 2 + random.below(4);
    const random_pool<float> p(random, count);
    const std::size_t sites = p.pool.sites();
    const auto rows = random_rows(random, sites, count);
    const matrix_view<const float> own(rows.data(), sites, count);
    const auto fresh = blend::by_site<policy>(p.pool, own);
    REQUIRE(fresh);
    auto shapes = fresh->shapes();
    for (auto& s : shapes) s.rank += random.below(3);
    adapter::lora_adapter<float> there(shapes);
    for (std::size_t i = 0; i < sites; ++i) {  // what was there before
      std::fill_n(there.a(i).data, there.a(i).size(), 7.0F);
      std::fill_n(there.b(i).data, there.b(i).size(), 7.0F);
    }
    REQUIRE(blend::by_site_into<policy>(p.pool, own, there, 0, threads));
    for (std::size_t i = 0; i < sites; ++i) {
      CHECK(distance(delta_at(there, i), delta_at(*fresh, i)) <= 1e-6);
    }

    shapes = fresh->shapes();
    shapes[0].scale += 1;
    adapter::lora_adapter<float> other(shapes);
    const auto scaled = blend::by_site_into<policy>(p.pool, own, other);
    REQUIRE_FALSE(scaled);
    CHECK(scaled.error().text.find(std::string(p.pool.module(0))) != std::string::npos);
    shapes.pop_back();
    adapter::lora_adapter<float> fewer(shapes);
    CHECK_FALSE(blend::by_site_into<policy>(p.pool, own, fewer));
  }
}

TEMPLATE_TEST_CASE("every site is the exact sum by its own weights", "", float, bf16, f16) {
  rng random(5);
  for (int repeat = 0; repeat < 15; ++repeat) {
    const std::size_t count = 1 + random.below(5);
    const bool foreign = repeat % 2 == 1;
    const random_pool<TestType> p(random, count);
    const auto adapters = foreign ? random_foreign<TestType>(random, count) : p.adapters;
    const auto set = *adapter_set<TestType>::build(adapters);
    const auto rows = random_rows(random, set.sites(), count);
    const matrix_view<const float> own(rows.data(), set.sites(), count);
    const auto check = [&](const auto& blended) {
      REQUIRE(blended);
      REQUIRE(blended->size() == set.sites());
      for (std::size_t i = 0; i < set.sites(); ++i) {
        const auto slots = blend::slots_of(std::span(own.row(i), count));
        const std::string module(set.module(i));
        CHECK(blended->module(i) == module);
        const auto expected = exact_sum(adapters, std::span(slots), module);
        auto actual = delta_at(*blended, i);
        actual.resize(expected.size());
        CHECK(distance(actual, expected) <= tolerance(adapters, std::span(slots), module));
      }
    };
    check(blend::by_site<blend::activations>(set, own));
    check(blend::by_site<blend::concat>(set, own));
    if (!foreign) check(blend::by_site<blend::concat>(p.pool, own));
  }
}

TEST_CASE("weights that are negligible at a site take no part there") {
  rng random(8);
  std::vector<adapter::site_shape> shapes{{"one", 6, 4, 2, 1.0F}, {"two", 5, 4, 2, 1.0F}};
  std::vector<lora_adapter<float>> all;
  for (int k = 0; k < 3; ++k) all.push_back(random_adapter<float>(shapes, random));
  const auto p = *pool<float>::build(all, {}, {});
  const std::vector<float> rows{0.5F, 0.49995F, 0.00005F, 0.00002F, 0.99998F, 0.0F};
  const auto made = blend::by_site<blend::concat>(p, {rows.data(), 2, 3}, blend::negligible);
  REQUIRE(made);
  CHECK(made->shape(0).rank == 4);
  CHECK(made->shape(1).rank == 2);
}

TEST_CASE("a matrix of other sites is refused, and a bad weight with its site") {
  rng random(9);
  std::vector<adapter::site_shape> shapes{{"one", 6, 4, 2, 1.0F}, {"two", 5, 4, 2, 1.0F}};
  std::vector<lora_adapter<float>> all;
  for (int k = 0; k < 3; ++k) all.push_back(random_adapter<float>(shapes, random));
  adapter::pool_info info;
  info.names = {"a", "b", "c"};
  const auto p = *pool<float>::build(all, {}, info);
  std::vector<float> rows(9, 1.0F / 3);
  CHECK(blend::by_site<blend::concat>(p, {rows.data(), 3, 3}).error().text ==
        "weights of 3 adapters at 3 sites, the pool has 3 adapters at 2");
  CHECK(blend::by_site<blend::concat>(p, {rows.data(), 2, 2}).error().text ==
        "weights of 2 adapters at 2 sites, the pool has 3 adapters at 2");
  rows[4] = NAN;
  CHECK(blend::by_site<blend::concat>(p, {rows.data(), 2, 3}).error().text ==
        "two: weight of b is nan, needs a finite number");
  rows[4] = -0.5F;
  CHECK(blend::by_site<blend::linear<>>(p, {rows.data(), 2, 3}).error().text ==
        "two: weight of b is -0.500000: the linear blend takes no negative weights");
  CHECK(blend::by_site<blend::concat>(p, {rows.data(), 2, 3}));
}
