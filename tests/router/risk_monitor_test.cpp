// SPDX-License-Identifier: MIT
#include <crayon/router/risk_monitor.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/router/binomial.hpp>

#include "../catch.hpp"

namespace {

using crayon::router::binomial_cdf;
using crayon::router::risk_monitor;

/// Queries until the alarm, none after `longest`: 0.
std::size_t watch(risk_monitor& monitor, double risk, std::size_t longest, crayon::rng& random) {
  for (std::size_t t = 1; t <= longest; ++t) {
    if (monitor.see(double{random.uniform()} < risk ? 1.0 : 0.0)) return t;
  }
  return 0;
}

}  // namespace

// 500 streams of 2000 queries; as many alarms as a monitor that has them with the stated
// probability exceeds once in 1000 times are too many.
TEST_CASE("a monitor whose risk is at the bound rarely gives an alarm, however long it looks",
          "[router]") {
  std::size_t most = 0;
  while (binomial_cdf(most, 500, 0.05) < 0.999) ++most;
  crayon::rng random(11);
  std::size_t alarms = 0, naive_alarms = 0;
  for (int stream = 0; stream < 500; ++stream) {
    auto monitor = *risk_monitor::make({.bound = 0.1, .false_alarm = 0.05});
    bool naive = false;  // a test of one size, looked at after each query
    for (int t = 1; t <= 2000; ++t) {
      monitor.see(random.uniform() < 0.1F ? 1.0 : 0.0);
      naive = naive || (t >= 50 && monitor.observed() > 0.1 + 1.645 * std::sqrt(0.09 / t));
    }
    alarms += monitor.alarm();
    naive_alarms += naive;
  }
  INFO(alarms << " alarms, " << naive_alarms << " of the naive test, at most " << most);
  CHECK(alarms <= most);
  CHECK(naive_alarms > 2 * most);
}

TEST_CASE("a drift gives an alarm soon, also after a long time without one", "[router]") {
  crayon::rng random(12);
  for (const std::size_t calm : {0U, 2000U}) {
    for (const double risk : {0.2, 0.4}) {
      std::vector<std::size_t> delays;
      for (int stream = 0; stream < 99; ++stream) {
        auto monitor = *risk_monitor::make({.bound = 0.1, .false_alarm = 0.01});
        REQUIRE(watch(monitor, 0.05, calm, random) == 0);
        const std::size_t delay = watch(monitor, risk, 5000, random);
        REQUIRE(delay != 0);
        CHECK(monitor.alarm_at() == calm + delay);
        delays.push_back(delay);
      }
      std::sort(delays.begin(), delays.end());
      const double divergence =
          risk * std::log(risk / 0.1) + (1 - risk) * std::log((1 - risk) / 0.9);
      const double t = static_cast<double>(calm) + 2;
      const double expected =
          (std::log(1 / 0.01) + std::log(t) + 2 * std::log(std::log(t) + 1)) / divergence;
      INFO("after " << calm << " at 0.05, risk " << risk << ": median " << delays[49] << ", 95 % "
                    << delays[94] << ", predicted " << expected);
      CHECK(static_cast<double>(delays[49]) < 1.5 * expected);
      CHECK(static_cast<double>(delays[49]) > 0.2 * expected);
    }
  }
}

TEST_CASE("an alarm stays until a restart, and changes nothing else", "[router]") {
  auto monitor = *risk_monitor::make({});
  CHECK(monitor.observed() == 0);
  while (!monitor.see(1)) {
  }
  const std::size_t at = monitor.seen();
  CHECK(at < 10);
  for (int i = 0; i < 1000; ++i) CHECK(monitor.see(0));
  CHECK(monitor.alarm_at() == at);
  CHECK(monitor.evidence() < 1);
  monitor.restart();
  CHECK_FALSE(monitor.alarm());
  CHECK(monitor.seen() == 0);
  CHECK_FALSE(monitor.see(0.1));
  CHECK(monitor.observed() == 0.1);
}

TEST_CASE("a monitor of no probability is refused", "[router]") {
  CHECK(risk_monitor::make({.bound = 1}).error().text.find("1.0") != std::string::npos);
  CHECK_FALSE(risk_monitor::make({.false_alarm = 0}));
  CHECK_FALSE(risk_monitor::make({.bound = std::numeric_limits<double>::quiet_NaN()}));
}
