// SPDX-License-Identifier: MIT
// expect: constraint
// expect: measure
#include <crayon/engine/scope_distance.hpp>

template <crayon::engine::scope_distance D>
struct engine {};

struct always_near {
  static constexpr bool needs_embedding = false;
  template <class Weights>
  void fit(crayon::matrix_view<const float>, Weights&&) {}
  template <class Weights>
#ifdef CRAYON_BAD
  double measure(std::span<const float>, Weights&&) const {
#else
  float measure(std::span<const float>, Weights&&) const {
#endif
      return 0;
}
}
;

engine<always_near> e;
