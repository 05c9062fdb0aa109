// SPDX-License-Identifier: MIT
// To the server when all of several policies say so.
#pragma once

#include <cstddef>
#include <tuple>

#include <crayon/router/confidence.hpp>

namespace crayon::router {

/// `all_of{scope{2}, confidence{signal_kind::margin, 0.3F}}`; of no policy: the server.
template <router_policy... Policies>
class all_of {
  static_assert(
      !(... || sees_every_query<Policies>),
      "all_of does not ask all of its policies: budgeted, chance and oracle go around it");

 public:
  all_of() = default;
  constexpr explicit all_of(Policies... policies) requires(sizeof...(Policies) > 0)
      : policies_(policies...) {}

  [[nodiscard]] constexpr route decide(const signals& seen) const {
    const bool server = std::apply(
        [&](const auto&... policy) { return (... && (policy.decide(seen) == route::server)); },
        policies_);
    return server ? route::server : route::device;
  }
  /// To the device: why the first part says so. To the server: the first of the parts, which all
  /// say so, with a threshold. Several promise nothing together: each keeps what another would
  /// send.
  [[nodiscard]] constexpr decision explain(const signals& seen, route said) const {
    decision why = detail::explain_parts(policies_, route::device, seen, said);
    if (sizeof...(Policies) > 1) why.made = {};
    return why;
  }

  template <std::size_t I>
  [[nodiscard]] constexpr const auto& get() const noexcept {
    return std::get<I>(policies_);
  }

 private:
  std::tuple<Policies...> policies_;
};
static_assert(explaining_policy<all_of<confidence, all_of<>>>);

}  // namespace crayon::router
