// SPDX-License-Identifier: MIT
#include <crayon/blend/procrustes.hpp>

#include <crayon/blend/error_report.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/core/thread_pool.hpp>

#include <string>
#include <vector>

#include "laws.hpp"
#include "recompress_fixture.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

std::vector<weighted_slot> equal_weights(std::size_t count) {
  return blend::slots_of(std::vector<float>(count, 1 / static_cast<float>(count)));
}

/// Relative error of `linear` against the exact sum.
template <element E>
double linear_error(const std::vector<lora_adapter<E>>& adapters,
                    const std::vector<weighted_slot>& weights) {
  const auto p = *pool<E>::build(adapters, {}, {});
  return blend::report_error(p, weights, *blend::linear<>::blend(p, weights))->total().relative();
}

/// Another gauge of the same adapter: (B G, G^-1 A) with G upper triangular.
void change_gauge(lora_adapter<float>& adapter, rng& random) {
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    const auto a = adapter.a(i), b = adapter.b(i);
    for (std::size_t k = 1; k < a.rows; ++k) {
      const float g = random.normal(), s = random.uniform() + 0.5F;
      for (std::size_t r = 0; r < b.rows; ++r) {
        b(r, k) += g * b(r, k - 1);
        b(r, k) *= s;
      }
      for (std::size_t c = 0; c < a.cols; ++c) {
        a(k - 1, c) -= g * a(k, c);
        a(k, c) /= s;
      }
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("alignment changes no adapter", "[procrustes]", float, bf16, f16) {
  rng random(91);
  for (int repeat = 0; repeat < 6; ++repeat) {
    const random_pool<TestType> p(random, 1 + random.below(5));
    const auto made = blend::align(std::span<const lora_adapter<TestType>>(p.adapters));
    REQUIRE(made);
    for (std::size_t k = 0; k < p.adapters.size(); ++k) {
      const std::vector<weighted_slot> one{{k, 1.0F}};
      for (std::size_t i = 0; i < p.pool.sites(); ++i) {
        CHECK(made->adapters[k].shape(i).scale == 1);
        CHECK(distance(delta_at(made->adapters[k], i), delta_at(p.adapters[k], i)) <=
              tolerance(p.adapters, one, p.pool.module(i)));
      }
    }
    CHECK(made->spread_after <= made->spread_before + 1e-12);
  }
}

TEST_CASE("adapters that differ in their gauge alone blend exactly once aligned", "[procrustes]") {
  rng random(92);
  const std::vector<adapter::site_shape> shapes{{"q", 30, 40, 4, 0.5F}, {"k", 12, 40, 4, 2.0F}};
  const auto one = random_adapter<float>(shapes, random);
  std::vector<lora_adapter<float>> adapters(5, one);
  for (auto& a : adapters) change_gauge(a, random);
  const auto weights = equal_weights(5);
  CHECK(linear_error(adapters, weights) > 0.05);
  const auto made = blend::align(std::span<const lora_adapter<float>>(adapters));
  REQUIRE(made);
  CHECK(made->spread_after < 1e-8);
  CHECK(linear_error(made->adapters, weights) < 1e-5);
}

TEST_CASE("alignment lowers the error of linear for adapters that share directions",
          "[procrustes]") {
  rng random(93);
  thread_pool threads(2);
  const std::vector<adapter::site_shape> shapes{{"q", 30, 40, 4, 0.5F}, {"k", 12, 40, 4, 2.0F}};
  const auto centre = random_adapter<float>(shapes, random);
  std::vector<lora_adapter<float>> adapters;
  for (std::size_t k = 0; k < 4; ++k) {
    const auto noise = random_adapter<float>(shapes, random);
    adapters.push_back(centre);
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      for (std::size_t j = 0; j < noise.factors(i).a.size(); ++j) {
        adapters[k].a(i).data[j] += 0.3F * noise.factors(i).a.data[j];
      }
    }
    change_gauge(adapters[k], random);
  }
  const auto weights = equal_weights(4);
  const std::span<const lora_adapter<float>> all(adapters);
  const auto made = blend::align(all);
  REQUIRE(made);
  CHECK(made->spread_after < 0.5 * made->spread_before);
  CHECK(linear_error(made->adapters, weights) < 0.3 * linear_error(adapters, weights));
  const auto together = blend::align(all, {}, threads);
  for (std::size_t k = 0; k < 4; ++k) CHECK(same(made->adapters[k], together->adapters[k]));
}

TEST_CASE("alignment of two adapters agrees with scipy", "[procrustes]") {
  const recompress_fixture f;
  for (std::size_t s = 0; s < 3; ++s) {
    std::vector<lora_adapter<float>> two;
    for (std::size_t k = 0; k < 2; ++k) {
      const auto from = f.adapters[k].factors(s);
      two.emplace_back(std::vector<adapter::site_shape>{f.adapters[k].shape(s)});
      std::copy_n(from.a.data, from.a.size(), two[k].a(0).data);
      std::copy_n(from.b.data, from.b.size(), two[k].b(0).data);
    }
    const auto made = blend::align(std::span<const lora_adapter<float>>(two));
    REQUIRE(made);
    const std::string site = "." + std::to_string(s);
    CHECK(made->spread_after == Approx(f.values("spread" + site)[0]).epsilon(1e-4));
    const auto p = *pool<float>::build(made->adapters, {}, {});
    const auto mean = f.values("mean" + site);
    const std::vector<double> expected(mean.begin(), mean.end());
    const auto blended = *blend::linear<>::blend(p, equal_weights(2));
    CHECK(distance(delta_at(blended, 0), expected) <= 2e-6 * norm(expected));
  }
}

TEST_CASE("a bias keeps its unit A", "[procrustes]") {
  std::vector<lora_adapter<float>> adapters;
  for (const float x : {2.0F, -3.0F}) {
    adapters.emplace_back(
        std::vector<adapter::site_shape>{{"q.bias", 2, 1, 1, 0.5F, adapter::site_kind::bias}});
    adapters.back().a(0)(0, 0) = 1;
    adapters.back().b(0)(0, 0) = x;
    adapters.back().b(0)(1, 0) = 1;
  }
  const auto made = blend::align(std::span<const lora_adapter<float>>(adapters));
  REQUIRE(made);
  CHECK(made->adapters[0].factors(0).a(0, 0) == 1);
  CHECK(made->adapters[1].factors(0).a(0, 0) == 1);
  CHECK(made->adapters[0].factors(0).b(0, 0) == Approx(1));
  CHECK(made->adapters[1].factors(0).b(0, 0) == Approx(-1.5));
  CHECK(linear_error(made->adapters, equal_weights(2)) < 1e-6);
}

TEST_CASE("alignment refuses adapters that do not fit", "[procrustes]") {
  const lora_adapter<float> q({{"q", 5, 5, 2, 1.0F}}), r({{"q", 5, 5, 3, 1.0F}}),
      k({{"k", 5, 5, 2, 1.0F}});
  const auto error_of = [](std::vector<lora_adapter<float>> adapters) {
    const auto made = blend::align(std::span<const lora_adapter<float>>(adapters));
    REQUIRE(!made);
    return made.error().text;
  };
  CHECK(error_of({}) == "an alignment of no adapters");
  CHECK(error_of({q, k}) == "adapter 1 has no module q");
  CHECK(
      error_of({q, r}) ==
      "adapter 1 has q (5, 5) rank 3 scale 1.000000, adapter 0 has q (5, 5) rank 2 scale 1.000000");
  auto broken = q;
  broken.a(0)(0, 0) = std::nanf("");
  CHECK(error_of({q, broken}) == "an adapter has factors that are not finite at q");
}
