// SPDX-License-Identifier: MIT
#include <crayon/router/any_of.hpp>
#include <crayon/router/all_of.hpp>
#include <crayon/router/always.hpp>
#include <crayon/router/rules.hpp>
#include <crayon/router/scope.hpp>

#include <array>
#include <cmath>

#include "../catch.hpp"

namespace {

using namespace crayon::router;
using crayon::route;
using crayon::signals;

constexpr float nan = not_measured;

constexpr signals sure_and_near{0.9F, 0.8F, 0.2F, -0.1F, 0.3F, 4};
constexpr signals sure_and_far{0.9F, 0.8F, 0.2F, -0.1F, 5.0F, 4};
constexpr signals unsure_and_near{0.3F, 0.1F, 2.5F, -1.7F, 0.3F, 4};
constexpr signals unsure_and_far{0.3F, 0.1F, 2.5F, -1.7F, 5.0F, 4};
constexpr signals unknown{nan, nan, nan, nan, nan, 0};

}  // namespace

TEST_CASE("confidence: a threshold in the signal's own units, in its own direction", "[router]") {
  const confidence policies[] = {{signal_kind::max_probability, 0.5F},
                                 {signal_kind::margin, 0.5F},
                                 {signal_kind::entropy, 1.0F},
                                 {signal_kind::mean_log_prob, -1.0F},
                                 {signal_kind::scope_distance, 1.0F}};
  for (const auto& policy : policies) {
    CAPTURE(name(policy.on));
    CHECK(policy.decide(sure_and_near) == route::device);
    CHECK(policy.decide(unsure_and_far) == route::server);
    // Not known yet is no answer; not known at all is a reason to ask.
    CHECK(policy.decide(unknown) == (needs_tokens(policy.on) ? route::device : route::server));
    signals broken = unknown;
    broken.tokens = 3;
    CHECK(policy.decide(broken) == route::server);
  }
  constexpr confidence no_threshold{signal_kind::margin, not_measured};
  CHECK(no_threshold.decide(sure_and_near) == route::server);
  CHECK(scope{2}.decide(unknown) == route::server);
  // On the threshold is not beyond it.
  CHECK(confidence{signal_kind::margin, 0.1F}.decide(unsure_and_near) == route::device);
}

TEST_CASE("any_of and all_of at compile time and rules at run time agree", "[router]") {
  constexpr any_of either{scope{2}, confidence{signal_kind::margin, 0.3F}};
  constexpr all_of both{scope{2}, confidence{signal_kind::margin, 0.3F}};
  static_assert(either.decide(sure_and_far) == route::server);
  static_assert(both.decide(sure_and_far) == route::device);

  const rules either_rules{rules::combination::any_of,
                           {{signal_kind::scope_distance, 2}, {signal_kind::margin, 0.3F}}};
  const rules both_rules{rules::combination::all_of, either_rules.thresholds};
  const auto check = [&](const signals& seen, route any, route all) {
    CHECK(either.decide(seen) == any);
    CHECK(either_rules.decide(seen) == any);
    CHECK(both.decide(seen) == all);
    CHECK(both_rules.decide(seen) == all);
  };
  check(sure_and_near, route::device, route::device);
  check(sure_and_far, route::server, route::device);
  check(unsure_and_near, route::server, route::device);
  check(unsure_and_far, route::server, route::server);
  check(unknown, route::server, route::server);
  CHECK(either.get<0>().threshold == 2);
}

TEST_CASE("the empty combinations are the constant policies", "[router]") {
  CHECK(any_of<>{}.decide(unsure_and_far) == always_device{}.decide(unsure_and_far));
  CHECK(all_of<>{}.decide(sure_and_near) == always_server{}.decide(sure_and_near));
  CHECK(rules{}.decide(unsure_and_far) == route::device);
  CHECK(rules{rules::combination::all_of, {}}.decide(sure_and_near) == route::server);
}

TEST_CASE("weight cross-entropy: a query of one of the user's tasks is near", "[router]") {
  const std::array<float, 4> user{0.5F, 0.5F, 0, 0};
  const std::array<float, 4> own{1, 0, 0, 0}, foreign{0, 0, 1, 0}, half{0.5F, 0, 0.5F, 0};
  CHECK(weight_cross_entropy(own, user) == Approx(std::log(2.0)));
  CHECK(weight_cross_entropy(user, user) == Approx(std::log(2.0)));
  CHECK(weight_cross_entropy(foreign, user) == Approx(-std::log(1e-6)));
  CHECK(weight_cross_entropy(half, user) == Approx((std::log(2.0) - std::log(1e-6)) / 2));
  signals seen = unknown;
  seen.scope_distance = weight_cross_entropy(foreign, user);
  CHECK(scope{2}.decide(seen) == route::server);
}
