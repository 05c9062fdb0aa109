// SPDX-License-Identifier: MIT
// expect: constraint
// expect: gate_policy
#include <crayon/train/gate_policy.hpp>

template <crayon::train::gate_policy<crayon::match::uniform> G>
struct trainer {};

struct first_adapter {
  static constexpr std::string_view name() { return "first_adapter"; }
  template <class M>
#ifdef CRAYON_BAD
  float operator()(const M&, crayon::matrix_view<const float>) const {
    return 1;
  }
#else
  void operator()(const M&, crayon::matrix_view<const float>, crayon::matrix_view<const float>,
                  crayon::matrix_view<float> weights) const {
    for (std::size_t s = 0; s < weights.rows; ++s) weights(s, 0) = 1;
  }
#endif
};

trainer<first_adapter> t;
