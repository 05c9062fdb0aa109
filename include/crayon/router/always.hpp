// SPDX-License-Identifier: MIT
// The two policies that look at nothing: the ends of every cost-quality curve.
#pragma once

#include <crayon/router/decision.hpp>

namespace crayon::router {

struct always_device {
  [[nodiscard]] constexpr route decide(const signals&) const noexcept { return route::device; }
  [[nodiscard]] constexpr decision explain(const signals&, route) const noexcept {
    return {route::device, "always_device"};
  }
};
static_assert(explaining_policy<always_device>);

struct always_server {
  [[nodiscard]] constexpr route decide(const signals&) const noexcept { return route::server; }
  [[nodiscard]] constexpr decision explain(const signals&, route) const noexcept {
    return {route::server, "always_server"};
  }
};
static_assert(explaining_policy<always_server>);

}  // namespace crayon::router
