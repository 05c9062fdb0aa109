// SPDX-License-Identifier: MIT
// What a policy's answer rests on: which number, which threshold, which promise.
#pragma once

#include <concepts>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <crayon/concepts.hpp>
#include <crayon/router/promise.hpp>

namespace crayon::router {

/// A policy's answer about one query, and why. Of several thresholds it is the one that decided.
struct decision {
  route to = route::device;
  /// What was looked at, as static text: a signal's name, or the policy's ("linear", "budget",
  /// "chance"). Empty: the policy does not say.
  std::string_view by = {};
  float score = not_measured;           ///< of the query, in the signal's own units
  float threshold = not_measured;       ///< in the same units; NaN: there is none
  promise made = {};                    ///< of the threshold; `promise_kind::none`: nothing
  seen_at due = seen_at::after_answer;  ///< when the score is seen that the promise is about
};

/// A policy that says why. Own policies need not: `crayon::router_policy` asks for `decide` alone.
template <class P>
concept explaining_policy = router_policy<P> && requires(const P& p, const signals& s, route said) {
  // why `decide` said that of these signals; changes nothing, and counts nothing twice
  { p.explain(s, said) } -> std::same_as<decision>;
};

/// Why `policy` said `said` of these signals. Of a policy that does not explain itself only what it
/// said is known, also where its reasons are inherited from another that would have said otherwise.
template <router_policy P>
[[nodiscard]] constexpr decision explain(const P& policy, const signals& seen, route said) {
  if constexpr (explaining_policy<P>) {
    const decision why = policy.explain(seen, said);
    if (why.to == said) return why;
  }
  decision nothing;
  nothing.to = said;
  return nothing;
}

/// Of reasons for the same answer: one with a promise outweighs one that was measured, and that one
/// what is merely known.
[[nodiscard]] constexpr bool outweighs(const decision& a, const decision& b) noexcept {
  const auto weight = [](const decision& d) {
    if (d.by.empty()) return 0;
    return d.made.kind != promise_kind::none ? 3 : d.score == d.score ? 2 : 1;
  };
  return weight(a) > weight(b);
}

/// The one to report; of equal ones the first.
[[nodiscard]] constexpr decision weightier(const decision& a, const decision& b) noexcept {
  return outweighs(b, a) ? b : a;
}

namespace detail {

/// Why several policies together said `said`, where one that says `alone` is enough: the first that
/// does, or the weightiest of all that say the other. Policies that do not explain themselves are
/// not asked again.
template <class... Parts>
[[nodiscard]] constexpr decision explain_parts(const std::tuple<Parts...>& parts, route alone,
                                               const signals& seen, route said) {
  decision enough, together;
  together.to = alone == route::server ? route::device : route::server;
  bool found = false;
  const auto ask = [&](const auto& part) {
    if constexpr (explaining_policy<std::remove_cvref_t<decltype(part)>>) {
      const decision why = part.explain(seen, said);
      if (found) return;
      if (why.to == alone) {
        enough = why;
        found = true;
      } else {
        together = weightier(together, why);
      }
    }
  };
  std::apply([&](const auto&... part) { (ask(part), ...); }, parts);
  if (found) return enough;
  constexpr bool all_explain = (... && explaining_policy<Parts>);
  if (said == together.to || all_explain) return together;
  decision another;  // one that does not explain itself
  another.to = said;
  return another;
}

}  // namespace detail
}  // namespace crayon::router
