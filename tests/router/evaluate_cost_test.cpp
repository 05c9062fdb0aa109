// SPDX-License-Identifier: MIT
#include <crayon/router/evaluate_cost.hpp>

#include <cmath>

#include <crayon/core/rng.hpp>
#include <crayon/router/evaluate_bootstrap.hpp>

#include "evaluation_fixture.hpp"

namespace {

using namespace crayon::router;
using crayon::router_test::expected_values;
using crayon::router_test::read_evaluation;

}  // namespace

TEST_CASE("APGR and CPT are those of an independent script", "[router]") {
  const auto rows = read_evaluation();
  const auto expected = expected_values("evaluation.txt");
  const routing_outcomes seen{rows.device_ok, rows.server_ok, {}, {}};
  for (const std::string name : {"risk", "tied"}) {
    CAPTURE(name);
    const auto order = risk_order::of(name == "risk" ? rows.risk : rows.tied);
    REQUIRE(order);
    const auto curve = cost_quality_curve(*order, seen);
    CHECK(curve.size() == order->steps() + 1);
    CHECK(curve.back().call_rate == 1);
    CHECK(curve.back().cost == Approx(1));
    CHECK(apgr(curve) == Approx(expected.at(name + ".apgr")).epsilon(1e-10));
    // The script looks on a grid of 200001 rates.
    CHECK(std::abs(calls_to_recover(curve, 0.5) - expected.at(name + ".cpt50")) < 6e-6);
    CHECK(std::abs(calls_to_recover(curve, 0.8) - expected.at(name + ".cpt80")) < 6e-6);
  }
  const auto at = route_rows(rows.risk, 0.5,
                             {rows.device_ok, rows.server_ok, rows.device_cost, rows.server_cost});
  CHECK(at.call_rate == Approx(expected.at("at_half.call_rate")));
  CHECK(at.quality == Approx(expected.at("at_half.quality")));
  CHECK(at.cost == Approx(expected.at("at_half.cost")));
}

TEST_CASE("a point of the curve is what its threshold does", "[router]") {
  const auto rows = read_evaluation();
  const routing_outcomes seen{rows.device_ok, rows.server_ok, rows.device_cost, rows.server_cost};
  std::vector<std::uint32_t> counts;
  crayon::rng random(2);
  for (std::size_t i = 0; i < rows.tied.size(); ++i) {
    counts.push_back(static_cast<std::uint32_t>(random.below(3)));
  }
  const auto order = risk_order::of(rows.tied);
  REQUIRE(order);
  for (const auto& point : cost_quality_curve(*order, seen, counts)) {
    const auto same = route_rows(rows.tied, std::nextafter(point.risk, -1e9), seen, counts);
    CHECK(same.call_rate == Approx(point.call_rate).margin(1e-12));
    CHECK(same.quality == Approx(point.quality));
    CHECK(same.cost == Approx(point.cost));
  }
}

TEST_CASE("the ends of APGR and CPT", "[router]") {
  const std::vector<std::uint8_t> device{1, 0, 0, 1}, server{1, 1, 1, 0};
  const routing_outcomes seen{device, server, {}, {}};
  const auto equal = risk_order::of(std::vector<double>(4, 0.0));
  const auto oracle = risk_order::of(std::vector<double>{0, 1, 1, -1});
  REQUIRE(equal);
  REQUIRE(oracle);
  CHECK(apgr(cost_quality_curve(*equal, seen)) == Approx(0.5));
  CHECK(calls_to_recover(cost_quality_curve(*equal, seen), 0.8) == Approx(0.8));
  CHECK(calls_to_recover(cost_quality_curve(*oracle, seen), 0.5) == Approx(0.125));
  CHECK(apgr(cost_quality_curve(*oracle, seen)) > 1);  // better than the server alone
  const routing_outcomes no_gap{device, device, {}, {}};
  CHECK(std::isnan(apgr(cost_quality_curve(*equal, no_gap))));
  const std::vector<std::uint8_t> worse{0, 0, 0, 1};
  CHECK(std::isnan(apgr(cost_quality_curve(*equal, {device, worse, {}, {}}))));
  CHECK(std::isnan(calls_to_recover(cost_quality_curve(*equal, no_gap), 0.5)));
  CHECK(route_rows(std::vector<double>{0, 1, 1, 2}, 1, seen).call_rate == 0.25);  // not 1 itself
}

TEST_CASE("what a threshold does to groups adds up to what it does to all", "[router]") {
  const std::vector<std::uint8_t> device{1, 0, 0, 1, 0}, server{1, 1, 0, 0, 1};
  const std::vector<double> cost{1, 1, 1, 1, 1}, call{5, 6, 7, 8, 9}, risk{0, 3, 1, 2, 4};
  const std::vector<std::size_t> group{0, 2, 0, 2, 2};
  const routing_outcomes seen{device, server, cost, call};
  const auto each = route_groups(risk, 2, seen, group, 3);
  REQUIRE(each.size() == 3);
  CHECK(each[0].call_rate == 0);
  CHECK(each[0].quality == 0.5);
  CHECK(each[0].cost == 1);
  CHECK(std::isnan(each[1].call_rate));  // no rows
  CHECK(each[2].call_rate == Approx(2.0 / 3));
  CHECK(each[2].quality == 1);
  CHECK(each[2].cost == Approx((6 + 1 + 9) / 3.0));
  const auto all = route_rows(risk, 2, seen);
  CHECK(all.call_rate == Approx((2 * each[0].call_rate + 3 * each[2].call_rate) / 5));
  CHECK(all.cost == Approx((2 * each[0].cost + 3 * each[2].cost) / 5));
  CHECK(route_groups({}, 2, seen, {}, 0).empty());
}

TEST_CASE("bootstrap intervals cover as often as they say, and repeat", "[router]") {
  // Of the mean of 60 numbers, over 300 sets of numbers.
  crayon::rng random(11);
  int covered = 0;
  for (int set = 0; set < 300; ++set) {
    std::vector<double> x(60), means;
    for (auto& v : x) v = double{random.normal()};
    row_resampler draws(x.size(), static_cast<std::uint64_t>(set));
    for (int d = 0; d < 200; ++d) {
      const auto counts = draws.next();
      double sum = 0;
      std::size_t drawn = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        sum += counts[i] * x[i];
        drawn += counts[i];
      }
      if (drawn != x.size()) FAIL(drawn);
      means.push_back(sum / 60);
    }
    const auto middle = middle_of(means);
    covered += middle.low < 0 && 0 < middle.high;
  }
  CHECK(covered > 267);  // 285 expected, and a little fewer at 60 rows
  CHECK(covered < 297);
  row_resampler a(9, 4), b(9, 4);
  const auto x = a.next(), y = b.next();
  CHECK(std::vector<std::uint32_t>(x.begin(), x.end()) ==
        std::vector<std::uint32_t>(y.begin(), y.end()));
}

TEST_CASE("whole groups are drawn, and undefined values left out", "[router]") {
  row_resampler draws({0, 0, 1, 2, 2, 2}, 3, 1);
  for (int d = 0; d < 20; ++d) {
    const auto c = draws.next();
    CHECK((c[0] == c[1] && c[3] == c[4] && c[4] == c[5]));
    CHECK(c[0] + c[2] + c[3] == 3);
  }
  const auto middle = middle_of({std::nan(""), 1, 3, 2}, 0.5);
  CHECK(middle.low == 1.5);
  CHECK(middle.high == 2.5);
  CHECK(std::isnan(middle_of({}).low));
}
