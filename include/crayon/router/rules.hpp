// SPDX-License-Identifier: MIT
// Thresholds on signals that are chosen at run time: what a router file holds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include <crayon/router/bounded_risk.hpp>
#include <crayon/router/confidence.hpp>

namespace crayon::router {

/// `any_of` or `all_of` over thresholds, as a value instead of a type. Without thresholds it is
/// `always_device` or `always_server`, as any_of<> and all_of<> are. A promise, where there is one,
/// is kept whatever the thresholds say: they can only send more to the server.
struct rules {
  enum class combination : std::uint8_t { any_of, all_of };

  combination combine = combination::any_of;
  std::vector<confidence> thresholds;
  std::optional<bounded_risk> promised = {};

  [[nodiscard]] route decide(const signals& seen) const noexcept {
    if (promised && promised->decide(seen) == route::server) return route::server;
    const auto server = [&](const confidence& one) { return one.decide(seen) == route::server; };
    const bool go = combine == combination::any_of
                        ? std::any_of(thresholds.begin(), thresholds.end(), server)
                        : std::all_of(thresholds.begin(), thresholds.end(), server);
    return go ? route::server : route::device;
  }

  /// The threshold that decided, as `any_of` and `all_of` have it; the promised one first.
  [[nodiscard]] decision explain(const signals& seen, route said) const {
    decision why;
    if (promised) {
      why = promised->explain(seen, said);
      const bool others = !thresholds.empty() || combine == combination::all_of;
      if (others && why.made.share == risk_share::of_kept) why.made = {};
      if (why.to == route::server) return why;
    }
    const route alone = combine == combination::any_of ? route::server : route::device;
    decision own;
    own.to = alone == route::server ? route::device : route::server;
    if (thresholds.empty() && !promised) {
      own.by = own.to == route::server ? "always_server" : "always_device";
    }
    for (const auto& one : thresholds) {
      const decision next = one.explain(seen, said);
      if (next.to != alone) {
        own = weightier(own, next);
        continue;
      }
      own = next;
      break;
    }
    return own.to == route::server ? own : weightier(why, own);
  }
};
static_assert(explaining_policy<rules>);

}  // namespace crayon::router
