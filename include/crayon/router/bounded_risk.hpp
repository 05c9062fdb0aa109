// SPDX-License-Identifier: MIT
// A threshold with a promise, as a policy.
#pragma once

#include <crayon/router/decision.hpp>
#include <crayon/router/signals.hpp>

namespace crayon::router {

/// Keeps what is measured and at most as risky as the threshold; everything else goes to the
/// server. `after_prefill` decides once, when it is asked first. `after_answer` may say "server"
/// earlier, which keeps less; of the signals that can only get worse (max_probability, margin,
/// entropy), the same. A promise on the queries that are kept (`risk_share::of_kept`) needs exactly
/// the calibration's ones: no other policy beside it, and no decision in the middle of an answer on
/// other signals. A `hybrid_engine` that streams the device's answer does not ask again after it,
/// and what the device answers because the server failed is not kept: neither is under the promise.
struct bounded_risk {
  calibrated_threshold at;
  signal_kind on = signal_kind::max_probability;
  seen_at when = seen_at::after_answer;

  [[nodiscard]] constexpr route decide(const signals& seen) const noexcept {
    if (when == seen_at::after_prefill && seen.asked != 0) return route::device;        // decided
    if (needs_tokens(on) && seen.tokens == 0 && seen.asked == 0) return route::device;  // not due
    const float value = value_of(seen, on);
    return at.keeps(as_risk(value, on)) ? route::device : route::server;
  }
  /// Nothing where it does not look: after its one decision, and before there is an answer.
  [[nodiscard]] constexpr decision explain(const signals& seen, route) const noexcept {
    if (when == seen_at::after_prefill && seen.asked != 0) return {};
    if (needs_tokens(on) && seen.tokens == 0 && seen.asked == 0) return {};
    return {decide(seen), name(on), value_of(seen, on), as_risk(at.risk, on), at.made, when};
  }
};
static_assert(explaining_policy<bounded_risk>);

}  // namespace crayon::router
