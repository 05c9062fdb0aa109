// SPDX-License-Identifier: MIT
// expect: constraint
// expect: start
#include <crayon/adapter/mapped_pool.hpp>

struct in_turn {
#ifndef CRAYON_BAD
  // A budget that no site fits into is refused here.
  crayon::result<void> start(std::span<const std::size_t>,
                             crayon::function_ref<crayon::result<void>(std::size_t)>) {
    return {};
  }
#endif
  void use(std::size_t site, crayon::function_ref<void(std::size_t)> let_go) {
    if (site > 0) let_go(site - 1);
  }
};

using pool = crayon::adapter::mapped_pool<float, in_turn>;
pool* p = nullptr;
