// SPDX-License-Identifier: MIT
// expect: constraint
// expect: decide
#include <crayon/concepts.hpp>

template <crayon::router_policy R>
struct engine {};

struct router {
#ifdef CRAYON_BAD
  static bool decide(const crayon::signals& s) {
    return s.margin > 0;
  }
#else
  static crayon::route decide(const crayon::signals& s) {
    return s.margin > 0 ? crayon::route::device : crayon::route::server;
  }
#endif
};

engine<router> e;
