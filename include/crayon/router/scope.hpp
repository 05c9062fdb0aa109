// SPDX-License-Identifier: MIT
// To the server when the query is not of the task that the device was customized for.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include <crayon/router/decision.hpp>

namespace crayon::router {

/// Distance of a query to the customized task, seen through the pool: cross-entropy, in nats, of
/// the query's adapter weights against the user's, H = -sum_i query_i log user_i. Large when the
/// query would like adapters that the user's blend does not hold. A query of one of the user's
/// several tasks stays near, which is why the query is the first argument of H and not the second.
/// Weights below `floor` count as `floor`, so that a distance is at most -log(floor). Same length;
/// each sums to 1.
[[nodiscard]] inline float weight_cross_entropy(std::span<const float> query,
                                                std::span<const float> user,
                                                float floor = 1e-6F) noexcept {
  CRAYON_ASSERT(query.size() == user.size());
  double sum = 0;
  for (std::size_t i = 0; i < query.size(); ++i) {
    sum -= double{query[i]} * std::log(double{std::max(user[i], floor)});
  }
  return static_cast<float>(sum);
}

/// Log-odds that a query's domain is none of the user's, whose samples weigh `user` on average: a
/// domain that has the share u of the samples is the user's by u / (u + 0.4), so that one sample of
/// eight is a hint and half of them nearly certain. p = sum_d query_d u_d / (u_d + 0.4),
///   log((1.01 - p) / (p + 0.01)),
/// from -0.93 (all samples and the query of one domain) to 4.6. The weights are P(domain | x) of
/// `match::domain_space`; same length, each sums to 1. NaN where one is not finite.
[[nodiscard]] inline float domain_mismatch(std::span<const float> query,
                                           std::span<const float> user) noexcept {
  CRAYON_ASSERT(query.size() == user.size());
  double own = 0;
  for (std::size_t d = 0; d < query.size(); ++d) {
    own += double{query[d]} * double{user[d]} / (double{user[d]} + 0.4);
  }
  return static_cast<float>(std::log((1.01 - own) / (own + 0.01)));
}

/// Beyond `threshold` the query goes to the server, before any token is generated. The distance is
/// chosen by the engine's configuration; the threshold is in its units. A query whose distance was
/// not measured goes to the server too.
struct scope {
  float threshold = 2;

  [[nodiscard]] constexpr route decide(const signals& seen) const noexcept {
    return seen.scope_distance <= threshold ? route::device : route::server;
  }
  [[nodiscard]] constexpr decision explain(const signals& seen, route) const noexcept {
    return {decide(seen), name(signal_kind::scope_distance), seen.scope_distance, threshold};
  }
};
static_assert(explaining_policy<scope>);

}  // namespace crayon::router
