// SPDX-License-Identifier: MIT
// A threshold with a promise, as a policy.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <crayon/router/promise.hpp>
#include <crayon/router/signals.hpp>

namespace crayon::router {

/// When the signals were seen that a threshold was calibrated on, and is to be asked about.
enum class seen_at : std::uint8_t { after_prefill, after_answer };

[[nodiscard]] constexpr std::string_view name(seen_at when) noexcept {
  return when == seen_at::after_prefill ? "after_prefill" : "after_answer";
}

[[nodiscard]] constexpr std::optional<seen_at> seen_at_of(std::string_view text) noexcept {
  for (const auto when : {seen_at::after_prefill, seen_at::after_answer}) {
    if (name(when) == text) return when;
  }
  return std::nullopt;
}

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
};
static_assert(router_policy<bounded_risk>);

}  // namespace crayon::router
