// SPDX-License-Identifier: MIT
#include <crayon/router/budgeted.hpp>

#include <thread>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/router/always.hpp>
#include <crayon/router/chance.hpp>
#include <crayon/router/confidence.hpp>
#include <crayon/router/oracle.hpp>

#include "../catch.hpp"

namespace {

using crayon::route;
using crayon::signals;
using namespace crayon::router;

signals asked_before(std::size_t asked, float margin = 0) {
  signals seen{};
  seen.asked = asked;
  seen.margin = margin;
  return seen;
}

}  // namespace

TEST_CASE("a budget is kept after every query, whatever the policy wants", "[router]") {
  crayon::rng random(4);
  for (const double share : {0.0, 0.07, 0.1, 0.29, 0.5, 1.0, 2.0}) {
    for (const std::size_t burst : {0U, 3U}) {
      const budgeted all(always_server{}, share, burst);
      const budgeted some(confidence{signal_kind::margin, 0.6F}, share, burst);
      std::size_t calls = 0, wanted = 0;
      for (std::size_t n = 1; n <= 1000; ++n) {
        const bool sent = all.decide(asked_before(0)) == route::server;
        calls += sent;
        // Asked again about the same query: no new one is counted.
        if (!sent) calls += all.decide(asked_before(1)) == route::server;
        CAPTURE(share, burst, n);
        REQUIRE(static_cast<double>(calls) <= share * static_cast<double>(n) + double(burst));
        REQUIRE(all.budget().calls() == calls);
        REQUIRE(all.budget().queries() == n);
        const float margin = random.uniform();
        const route way = some.decide(asked_before(0, margin));
        if (margin >= 0.6F) REQUIRE(way == route::device);
        wanted += margin < 0.6F;
      }
      // And it is used: at most one call is left over.
      const double most = std::min(share * 1000 + double(burst), 1000.0);
      CHECK(static_cast<double>(calls) > most - 1.01);
      CHECK(some.budget().calls() <= wanted);
      if (share >= 1) CHECK(some.budget().calls() == wanted);
    }
  }
  CHECK_FALSE(call_budget(0.0).take());
  CHECK_FALSE(call_budget(not_measured).take());
}

TEST_CASE("engines on several threads share a budget", "[router]") {
  const auto budget = std::make_shared<call_budget>(0.25);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      const budgeted policy(always_server{}, budget);
      for (int i = 0; i < 2500; ++i) static_cast<void>(policy.decide(asked_before(0)));
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(budget->queries() == 10000);
  CHECK(budget->calls() <= 2500);
  CHECK(budget->calls() > 2000);
}

TEST_CASE("chance: once per query, the same for the same seed", "[router]") {
  const chance one(0.3, 9), same(0.3, 9), other(0.3, 10);
  std::size_t calls = 0, differs = 0;
  for (int i = 0; i < 4000; ++i) {
    const route way = one.decide(asked_before(0));
    CHECK(one.decide(asked_before(1)) == route::device);
    CHECK(same.decide(asked_before(0)) == way);
    calls += way == route::server;
    differs += other.decide(asked_before(0)) != way;
  }
  CHECK(calls > 1200 - 120);  // 4 deviations
  CHECK(calls < 1200 + 120);
  CHECK(differs > 1000);
  CHECK(chance(0, 1).decide(asked_before(0)) == route::device);
  CHECK(chance(1, 1).decide(asked_before(0)) == route::server);
}

TEST_CASE("the oracle sends what only the server gets right", "[router]") {
  const std::vector<known_outcome> outcomes{
      {true, true}, {false, true}, {false, false}, {true, false}};
  const oracle knows(outcomes);
  std::vector<route> ways;
  for (int i = 0; i < 5; ++i) {
    ways.push_back(knows.decide(asked_before(0)));
    CHECK(knows.decide(asked_before(1)) == route::device);
  }
  CHECK(ways ==
        std::vector{route::device, route::server, route::device, route::device, route::device});
}
