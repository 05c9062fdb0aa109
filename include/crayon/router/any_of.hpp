// SPDX-License-Identifier: MIT
// To the server when one of several policies says so.
#pragma once

#include <cstddef>
#include <tuple>

#include <crayon/router/confidence.hpp>

namespace crayon::router {

/// `any_of{scope{2}, confidence{signal_kind::margin, 0.3F}}`; of no policy: the device.
template <router_policy... Policies>
class any_of {
  static_assert(
      !(... || sees_every_query<Policies>),
      "any_of does not ask all of its policies: budgeted, chance and oracle go around it");

 public:
  any_of() = default;
  constexpr explicit any_of(Policies... policies) requires(sizeof...(Policies) > 0)
      : policies_(policies...) {}

  [[nodiscard]] constexpr route decide(const signals& seen) const {
    const bool server = std::apply(
        [&](const auto&... policy) { return (... || (policy.decide(seen) == route::server)); },
        policies_);
    return server ? route::server : route::device;
  }
  /// To the server: why the first part says so. To the device: the first of the parts, which all
  /// say so, with a promise or else a threshold. What is promised of the queries that are kept is
  /// not, where other parts send some of them.
  [[nodiscard]] constexpr decision explain(const signals& seen, route said) const {
    decision why = detail::explain_parts(policies_, route::server, seen, said);
    if (sizeof...(Policies) > 1 && why.made.share == risk_share::of_kept) why.made = {};
    return why;
  }

  template <std::size_t I>
  [[nodiscard]] constexpr const auto& get() const noexcept {
    return std::get<I>(policies_);
  }

 private:
  std::tuple<Policies...> policies_;
};
static_assert(explaining_policy<any_of<confidence, any_of<>>>);

}  // namespace crayon::router
