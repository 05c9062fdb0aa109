// SPDX-License-Identifier: MIT
// expect: constraint
// expect: coefficients
#include <crayon/concepts.hpp>

template <crayon::site_matcher M>
struct engine {};

struct first {
  static constexpr std::string_view name() { return "first"; }
#ifdef CRAYON_BAD
  static void coefficients(const float* prototypes, const float* x, float* weights) {
    weights[0] = prototypes[0] * x[0];
  }
#else
  static void coefficients(crayon::matrix_view<const float> prototypes, const float*,
                           float* weights) {
    for (std::size_t i = 0; i < prototypes.rows; ++i) weights[i] = i == 0 ? 1.0F : 0.0F;
  }
#endif
};

engine<first> e;
