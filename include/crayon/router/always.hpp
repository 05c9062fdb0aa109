// SPDX-License-Identifier: MIT
// The two policies that look at nothing: the ends of every cost-quality curve.
#pragma once

#include <crayon/concepts.hpp>

namespace crayon::router {

struct always_device {
  [[nodiscard]] constexpr route decide(const signals&) const noexcept { return route::device; }
};
static_assert(router_policy<always_device>);

struct always_server {
  [[nodiscard]] constexpr route decide(const signals&) const noexcept { return route::server; }
};
static_assert(router_policy<always_server>);

}  // namespace crayon::router
