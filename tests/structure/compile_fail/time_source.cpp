// SPDX-License-Identifier: MIT
// expect: constraint
// expect: date
#include <crayon/serve/time_source.hpp>

template <crayon::serve::time_source T>
struct client {};

struct stopped {
  static crayon::serve::clock::time_point now() { return {}; }
#ifndef CRAYON_BAD
  static std::chrono::system_clock::time_point date() {
    return {};
  }
#endif
  static void wait_until(crayon::serve::clock::time_point, const std::atomic<bool>*) {}
};

client<stopped> c;
