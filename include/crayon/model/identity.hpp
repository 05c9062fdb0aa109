// SPDX-License-Identifier: MIT
// What tells two models apart.
#pragma once

#include <string>
#include <string_view>

#include <crayon/core/hash.hpp>
#include <crayon/model/llama_config.hpp>

namespace crayon::model {

/// Of weights (`llama_weights::hash()`) and of the configuration they run with, which the weights
/// do not show: heads, rope, norm epsilon, context.
[[nodiscard]] inline std::string identity(const llama_config& c, std::string_view weights_hash) {
  hasher h;
  h.add(weights_hash);
  for (const std::size_t n : {c.dim, c.hidden, c.layers, c.heads, c.kv_heads, c.head_dim, c.vocab,
                              c.context, c.scaling.original_context, std::size_t{c.tied}}) {
    h.add(&n, sizeof n);
  }
  for (const float x :
       {c.rope_theta, c.norm_epsilon, c.scaling.factor, c.scaling.low, c.scaling.high}) {
    h.add(&x, sizeof x);
  }
  return h.hex();
}

}  // namespace crayon::model
