// SPDX-License-Identifier: MIT
// expect: constraint
// expect: factors
#include <utility>

#include <crayon/concepts.hpp>

template <crayon::adapter_storage A>
struct engine {};

struct zeros {
  using element_type = float;
  static std::size_t size() { return 1; }
  static std::string_view module(std::size_t) { return "model.layers.0.mlp.up_proj"; }
#ifdef CRAYON_BAD
  static std::pair<const float*, const float*> factors(std::size_t) {
    return {};
  }
#else
  static crayon::factors_view<float> factors(std::size_t) {
    return {};
  }
#endif
};

engine<zeros> e;
