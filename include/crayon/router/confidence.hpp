// SPDX-License-Identifier: MIT
// To the server when the device's model is not sure of its answer.
#pragma once

#include <crayon/router/decision.hpp>

namespace crayon::router {

/// A policy that must be asked about every query.
template <class P>
concept sees_every_query = requires {
  requires P::sees_every_query;
};

/// A threshold on one signal, in the signal's own units: `confidence{signal_kind::margin, 0.3F}`
/// keeps answers whose smallest margin is at least 0.3. A signal that was not measured sends the
/// query to the server; one that there cannot be before the first token says nothing until then.
struct confidence {
  signal_kind on = signal_kind::max_probability;
  float threshold = 0.5F;

  [[nodiscard]] constexpr route decide(const signals& seen) const noexcept {
    if (needs_tokens(on) && seen.tokens == 0) return route::device;
    return beyond(value_of(seen, on), threshold, on) ? route::server : route::device;
  }
  [[nodiscard]] constexpr decision explain(const signals& seen, route) const noexcept {
    if (needs_tokens(on) && seen.tokens == 0) return {};
    return {decide(seen), name(on), value_of(seen, on), threshold};
  }
};
static_assert(explaining_policy<confidence>);

}  // namespace crayon::router
