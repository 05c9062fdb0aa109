// SPDX-License-Identifier: MIT
// expect: constraint
// expect: weights
#include <vector>

#include <crayon/concepts.hpp>

template <crayon::matcher M>
struct engine {};

struct uniform {
  static constexpr std::string_view name() { return "uniform"; }
#ifdef CRAYON_BAD
  static float weights(crayon::matrix_view<const float> index, crayon::matrix_view<const float>) {
    return 1.0F / static_cast<float>(index.rows);
  }
#else
  static std::vector<float> weights(crayon::matrix_view<const float> index,
                                    crayon::matrix_view<const float>) {
    return std::vector<float>(index.rows, 1.0F / static_cast<float>(index.rows));
  }
#endif
};

engine<uniform> e;
