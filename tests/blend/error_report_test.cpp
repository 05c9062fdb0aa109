// SPDX-License-Identifier: MIT
#include <crayon/blend/error_report.hpp>

#include <crayon/blend/activations.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/recompress.hpp>
#include <crayon/core/thread_pool.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "laws.hpp"
#include "recompress_fixture.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

/// Against matrices of the size of W, in double.
template <class Blended, element E>
void check_report(const blend::error_report& report, const Blended& blended,
                  const std::vector<lora_adapter<E>>& adapters,
                  const std::vector<weighted_slot>& weights) {
  double error = 0, size = 0;
  REQUIRE(report.sites.size() == blended.size());
  for (std::size_t i = 0; i < blended.size(); ++i) {
    const auto& site = report.sites[i];
    CHECK(site.module == blended.module(i));
    const auto exact = exact_sum(adapters, weights, site.module);
    auto found = delta_at(blended, i);
    found.resize(exact.size());
    const double expected = distance(found, exact);
    CHECK(site.norm == Approx(norm(exact)).epsilon(1e-10).margin(1e-12));
    CHECK(site.error == Approx(expected).epsilon(1e-6).margin(1e-12 * norm(exact) + 1e-13));
    error = std::hypot(error, expected);
    size = std::hypot(size, norm(exact));
  }
  if (size > 0) {
    CHECK(report.total().relative() == Approx(error / size).epsilon(1e-6).margin(1e-12));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the report is the distance from the exact sum", "[error_report]", float, bf16) {
  rng random(81);
  for (int repeat = 0; repeat < 10; ++repeat) {
    const std::size_t count = 1 + random.below(5);
    const random_pool<TestType> p(random, count);
    auto weights = random_weights(random, count);
    const auto check = [&](const auto& blended) {
      REQUIRE(blended);
      const auto report = blend::report_error(p.pool, weights, *blended);
      REQUIRE(report);
      check_report(*report, *blended, p.adapters, weights);
    };
    check(blend::activations::blend(p.pool, weights));
    check(blend::concat::blend(p.pool, weights));
    check(blend::recompress<>::blend(p.pool, weights, {.rank = 2}));
    for (auto& w : weights) w.weight = std::abs(w.weight);
    check(blend::linear<>::blend(p.pool, weights));
  }
}

TEST_CASE("the report of adapters with other sites and ranks", "[error_report]") {
  rng random(82);
  thread_pool threads(2);
  for (int repeat = 0; repeat < 10; ++repeat) {
    auto adapters = random_foreign<float>(random, 1 + random.below(5));
    const auto weights = random_weights(random, adapters.size());
    const auto copies = adapters;
    const auto set = *adapter_set<float>::build(std::move(adapters));
    const auto blended = *blend::recompress<>::blend(set, weights, {.rank = 1});
    const auto report = blend::report_error(set, weights, blended, threads);
    REQUIRE(report);
    check_report(*report, blended, copies, weights);
  }
}

TEST_CASE("the report sees errors far below the rounding of f32", "[error_report]") {
  rng random(83);
  const std::vector<adapter::site_shape> shapes{{"q", 90, 40, 5, 1.0F}};
  const std::vector<lora_adapter<float>> adapters{random_adapter<float>(shapes, random)};
  const auto p = *pool<float>::build(adapters, {}, {});
  const std::vector<weighted_slot> one{{0, 1.0F}};
  CHECK(blend::report_error(p, one, adapters[0])->total().relative() < 1e-14);
  auto other = adapters[0];
  float& e = other.b(0)(17, 3);
  e = std::nextafter(e, 2.0F);  // the smallest change that there is
  const auto report = blend::report_error(p, one, other);
  const double expected = distance(delta_at(other, 0), delta_at(adapters[0], 0));
  REQUIRE(expected > 0);
  CHECK(report->sites[0].error == Approx(expected).epsilon(1e-5));
  CHECK(report->total().relative() < 1e-7);
}

TEST_CASE("the report agrees with numpy", "[error_report]") {
  const recompress_fixture f;
  const auto p = *pool<float>::build(f.adapters, {}, {});
  const auto check = [](const blend::error_report& report, const std::vector<float>& expected) {
    for (std::size_t s = 0; s < 3; ++s) {
      CHECK(report.sites[s].relative() == Approx(expected[s]).epsilon(1e-4));
    }
    CHECK(report.total().relative() == Approx(expected[3]).epsilon(1e-4));
  };
  const auto weights = blend::slots_of(f.weights);
  check(*blend::report_error(p, weights, *blend::recompress<>::blend(p, weights, {.rank = 3})),
        f.values("best_error"));
  auto positive = f.weights;
  float sum = 0;
  for (float& w : positive) sum += w = std::abs(w);
  for (float& w : positive) w /= sum;
  const auto slots = blend::slots_of(positive);
  check(*blend::report_error(p, slots, *blend::linear<>::blend(p, slots)),
        f.values("linear_error"));
}

TEST_CASE("the report of what is zero, missing or foreign", "[error_report]") {
  rng random(84);
  const std::vector<adapter::site_shape> shapes{{"q", 7, 9, 2, 1.0F}, {"k", 3, 9, 2, 1.0F}};
  const std::vector<lora_adapter<float>> adapters{random_adapter<float>(shapes, random)};
  const auto p = *pool<float>::build(adapters, {}, {});
  const std::vector<weighted_slot> none{{0, 0.0F}}, one{{0, 1.0F}};
  const lora_adapter<float> zero(shapes);
  CHECK(blend::report_error(p, none, zero)->total().relative() == 0);
  CHECK(blend::report_error(p, none, adapters[0])->total().relative() ==
        std::numeric_limits<double>::infinity());
  CHECK(blend::report_error(p, one, zero)->total().relative() == Approx(1));

  lora_adapter<float> part({shapes[1]});  // q is missing, and counts as zero
  std::copy_n(adapters[0].factors(1).a.data, part.a(0).size(), part.a(0).data);
  std::copy_n(adapters[0].factors(1).b.data, part.b(0).size(), part.b(0).data);
  const auto report = blend::report_error(p, one, part);
  REQUIRE(report);
  CHECK(report->sites[0].relative() == Approx(1));
  CHECK(report->sites[1].relative() < 1e-14);

  const auto error_of = [&](const auto& blended) {
    const auto refused = blend::report_error(p, one, blended);
    REQUIRE(!refused);
    return refused.error().text;
  };
  CHECK(error_of(lora_adapter<float>({{"x", 7, 9, 2, 1.0F}})) ==
        "the blend has a site that its adapters lack: x");
  CHECK(error_of(lora_adapter<float>({{"q", 8, 9, 2, 1.0F}})) ==
        "the blend has q (8, 9), its adapters (7, 9)");
  auto broken = adapters[0];
  broken.a(1)(0, 0) = std::numeric_limits<float>::infinity();
  CHECK(error_of(broken) == "the factors are not finite at k");
}
