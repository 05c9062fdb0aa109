// SPDX-License-Identifier: MIT
#include <crayon/router/threshold.hpp>

#include <algorithm>
#include <vector>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

namespace {

using crayon::router::calibration_point;
using crayon::router::fit_accuracy;
using crayon::router::fit_call_rate;

struct outcome {
  float accuracy, call_rate;
};

outcome route_at(const std::vector<calibration_point>& points, float threshold) {
  std::size_t right = 0, calls = 0;
  for (const auto& p : points) {
    const bool server = p.risk > threshold;
    calls += server;
    if (server ? p.server_ok : p.device_ok) ++right;
  }
  const auto n = static_cast<float>(points.size());
  return {static_cast<float>(right) / n, static_cast<float>(calls) / n};
}

}  // namespace

TEST_CASE("fit_accuracy finds what trying every threshold finds", "[router]") {
  crayon::rng random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<calibration_point> points(1 + random.below(40));
    for (auto& p : points) {
      p.risk = static_cast<float>(random.below(12)) - 6;  // many ties
      p.device_ok = random.uniform() < 0.6F - 0.05F * p.risk;
      p.server_ok = random.uniform() < 0.7F;
    }
    const auto fitted = fit_accuracy(points);
    REQUIRE(fitted);
    const auto realised = route_at(points, fitted->risk);
    CHECK(realised.accuracy == fitted->accuracy);
    CHECK(realised.call_rate == fitted->call_rate);
    float best = 0;
    for (int t = -14; t <= 14; ++t) {
      const auto other = route_at(points, static_cast<float>(t) / 2);
      best = std::max(best, other.accuracy);
      // Of equally good thresholds the cheapest is taken.
      if (other.accuracy == fitted->accuracy) CHECK(other.call_rate >= fitted->call_rate);
    }
    CHECK(fitted->accuracy == best);
  }
}

TEST_CASE("fit_call_rate never exceeds the rate and cannot do more", "[router]") {
  crayon::rng random(4);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> risks(1 + random.below(30));
    for (auto& r : risks) r = static_cast<float>(random.below(10)) * 0.37F;
    for (const float rate : {0.0F, 0.1F, 0.25F, 0.5F, 0.9F, 1.0F}) {
      const auto fitted = fit_call_rate(risks, rate);
      REQUIRE(fitted);
      std::vector<calibration_point> points;
      for (const float r : risks) points.push_back({r, false, false});
      CHECK(route_at(points, fitted->risk).call_rate == fitted->call_rate);
      CHECK(fitted->call_rate <= rate);
      // The next lower threshold would send more than allowed.
      float most = 0;
      for (const float r : risks) {
        const float calls = route_at(points, r - 0.01F).call_rate;
        if (calls <= rate) most = std::max(most, calls);
      }
      CHECK(fitted->call_rate == most);
    }
  }
}

TEST_CASE("calibration that cannot be is refused", "[router]") {
  CHECK(fit_accuracy({}).error().text.find("no points") != std::string::npos);
  const std::vector<calibration_point> broken{{0, true, true},
                                              {crayon::router::not_measured, true, true}};
  CHECK(fit_accuracy(broken).error().text.find("point 1") != std::string::npos);
  const std::vector<float> risks{1, 2};
  CHECK(fit_call_rate(risks, 1.5F).error().text.find("1.5") != std::string::npos);
}
