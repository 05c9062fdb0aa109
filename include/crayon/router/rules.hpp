// SPDX-License-Identifier: MIT
// A policy that is chosen at run time: what a router file holds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <crayon/router/bounded_risk.hpp>
#include <crayon/router/budgeted.hpp>
#include <crayon/router/confidence.hpp>
#include <crayon/router/learned.hpp>

namespace crayon::router {

/// `any_of` or `all_of` over thresholds and a learned line, as a value instead of a type. Without
/// any of them it is `always_device` or `always_server`, as any_of<> and all_of<> are. A promise,
/// where there is one, is kept whatever these say: they can only send more to the server. A budget
/// goes around all of it, and copies of the rules share it.
struct rules {
  static constexpr bool sees_every_query = true;  // a budget does

  enum class combination : std::uint8_t { any_of, all_of };

  combination combine = combination::any_of;
  std::vector<confidence> thresholds;
  std::optional<bounded_risk> promised = {};
  std::optional<linear> line = {};
  std::optional<bounded_line> promised_line = {};  ///< not beside `promised`
  std::shared_ptr<call_budget> budget = {};        ///< null: none; not beside a promise

  [[nodiscard]] route decide(const signals& seen) const noexcept {
    if (budget && seen.asked == 0) budget->count_query();
    const bool go = wants(seen) == route::server && (!budget || budget->take());
    return go ? route::server : route::device;
  }

  /// What decided, as `any_of`, `all_of` and `budgeted` have it; the promised threshold first.
  [[nodiscard]] decision explain(const signals& seen, route said) const {
    const decision why = explain_wish(seen);
    return budget ? explain_budget(*budget, why, said) : why;
  }

  /// What is promised, on a signal or on the line; null: nothing.
  [[nodiscard]] const calibrated_threshold* promise_kept() const noexcept {
    return promised ? &promised->at : promised_line ? &promised_line->at : nullptr;
  }

  /// Whether anything here depends on that signal.
  [[nodiscard]] bool looks_at(signal_kind which) const noexcept {
    const auto in = [&](const linear& l) {
      return std::find(l.on.begin(), l.on.end(), which) != l.on.end();
    };
    return (promised && promised->on == which) || (line && in(*line)) ||
           (promised_line && in(promised_line->line)) ||
           std::any_of(thresholds.begin(), thresholds.end(),
                       [&](const confidence& one) { return one.on == which; });
  }

 private:
  /// What one of the parts has to say to be enough.
  [[nodiscard]] route enough() const noexcept {
    return combine == combination::any_of ? route::server : route::device;
  }
  [[nodiscard]] static constexpr route other(route one) noexcept {
    return one == route::server ? route::device : route::server;
  }

  [[nodiscard]] route wants(const signals& seen) const noexcept {
    if (promised && promised->decide(seen) == route::server) return route::server;
    if (promised_line && promised_line->decide(seen) == route::server) return route::server;
    for (const auto& one : thresholds) {
      if (one.decide(seen) == enough()) return enough();
    }
    if (line && line->decide(seen) == enough()) return enough();
    return other(enough());
  }

  [[nodiscard]] decision explain_wish(const signals& seen) const {
    const bool parts = !thresholds.empty() || line;
    decision why, own;
    if (promise_kept() != nullptr) {
      why = promised ? promised->explain(seen, route::device)
                     : promised_line->explain(seen, route::device);
      const bool others = parts || combine == combination::all_of;
      if (others && why.made.share == risk_share::of_kept) why.made = {};
      if (why.to == route::server) return why;
    }
    own.to = other(enough());
    bool found = false;
    const auto hear = [&](const decision& next) {
      if (found) return;
      found = next.to == enough();
      own = found ? next : weightier(own, next);
    };
    for (const auto& one : thresholds) hear(one.explain(seen, route::device));
    if (line) hear(line->explain(seen, route::device));
    if (!parts && promise_kept() == nullptr) {
      own.by = own.to == route::server ? "always_server" : "always_device";
    }
    return own.to == route::server ? own : weightier(why, own);
  }
};
static_assert(explaining_policy<rules>);

}  // namespace crayon::router
