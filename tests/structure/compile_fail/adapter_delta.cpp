// SPDX-License-Identifier: MIT
// expect: constraint
// expect: scratch_size
#include <crayon/concepts.hpp>

template <crayon::adapter_delta D>
struct engine {};

struct nothing {
#ifndef CRAYON_BAD
  static std::size_t scratch_size() {
    return 0;
  }
#endif
  static void add(std::size_t, crayon::matrix_view<const float>, crayon::matrix_view<float>,
                  float*) {}
  static void add_embedding(std::span<const std::int32_t>, crayon::matrix_view<float>, float*) {}
};

engine<nothing> e;
