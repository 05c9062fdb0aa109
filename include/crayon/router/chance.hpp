// SPDX-License-Identifier: MIT
// To the server by a throw of dice: what any policy that looks has to beat.
#pragma once

#include <cstdint>

#include <crayon/core/rng.hpp>
#include <crayon/router/decision.hpp>

namespace crayon::router {

/// Sends a query with probability `share`, thrown once, when it is asked about for the first time.
/// The same seed sends the same queries. For one thread.
class chance {
 public:
  static constexpr bool sees_every_query = true;

  chance(double share, std::uint64_t seed) noexcept : share_(share), random_(seed) {}

  [[nodiscard]] route decide(const signals& seen) const noexcept {
    if (seen.asked != 0) return route::device;
    return static_cast<double>(random_.uniform()) < share_ ? route::server : route::device;
  }
  [[nodiscard]] decision explain(const signals&, route said) const noexcept {
    return {said, "chance"};
  }

 private:
  double share_;
  mutable rng random_;
};
static_assert(explaining_policy<chance>);

}  // namespace crayon::router
