// SPDX-License-Identifier: MIT
// expect: constraint
// expect: sum_squares
#include <crayon/simd/scalar.hpp>

template <crayon::kernel_backend B>
struct engine {};

struct backend : crayon::simd::scalar {
#ifdef CRAYON_BAD
  static float sum_squares(const float* x, std::size_t n) = delete;
#endif
};

engine<backend> e;
