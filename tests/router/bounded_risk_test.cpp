// SPDX-License-Identifier: MIT
#include <crayon/router/bounded_risk.hpp>

#include <crayon/router/rules.hpp>

#include "../catch.hpp"

TEST_CASE("a bounded risk keeps what is measured and at most as risky", "[router]") {
  using namespace crayon::router;
  crayon::signals seen{0.6F, 0.5F, 1.0F, not_measured, not_measured, 0};
  bounded_risk policy{{-0.55F, {promise_kind::mean, risk_share::of_all, 0.1, 0, 99}, 0, 0},
                      signal_kind::max_probability,
                      seen_at::after_answer};
  CHECK(policy.decide(seen) == crayon::route::device);
  seen.max_probability = 0.5F;
  CHECK(policy.decide(seen) == crayon::route::server);
  seen.max_probability = not_measured;
  CHECK(policy.decide(seen) == crayon::route::server);

  // Not due before the first token, then due.
  policy.on = signal_kind::mean_log_prob;
  policy.at.risk = 0.2F;
  CHECK(policy.decide(seen) == crayon::route::device);
  seen.asked = 1;  // an answer without a token
  CHECK(policy.decide(seen) == crayon::route::server);
  seen.tokens = 3;
  CHECK(policy.decide(seen) == crayon::route::server);
  seen.mean_log_prob = -0.1F;
  CHECK(policy.decide(seen) == crayon::route::device);
  seen.mean_log_prob = -0.3F;
  CHECK(policy.decide(seen) == crayon::route::server);

  // Decided once, before the first token.
  policy.when = seen_at::after_prefill;
  CHECK(policy.decide(seen) == crayon::route::device);
  policy.on = signal_kind::scope_distance;
  seen.tokens = seen.asked = 0;
  CHECK(policy.decide(seen) == crayon::route::server);
  seen.scope_distance = 0.1F;
  CHECK(policy.decide(seen) == crayon::route::device);
  policy.at.risk = calibrated_threshold::keeps_none;
  CHECK(policy.decide(seen) == crayon::route::server);

  // Beside thresholds it can only send more.
  rules both;
  CHECK(both.decide(seen) == crayon::route::device);
  both.promised = policy;
  CHECK(both.decide(seen) == crayon::route::server);
  both.promised->at.risk = 1;
  CHECK(both.decide(seen) == crayon::route::device);
  both.thresholds = {{signal_kind::margin, 0.9F}};
  CHECK(both.decide(seen) == crayon::route::server);
}
