// SPDX-License-Identifier: MIT
// Starting weights of a model that has not learned yet.
#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>

#include <crayon/core/rng.hpp>
#include <crayon/model/llama_weights.hpp>

namespace crayon::train {

/// Matrices ~ N(0, 0.02), those that write into the residual stream (o, down) divided by
/// sqrt(2 layers) as GPT-2 does; norms 1.
[[nodiscard]] inline model::llama_weights<float> initial_weights(const model::llama_config& config,
                                                                 rng& random,
                                                                 float deviation = 0.02F) {
  model::llama_weights<float> weights(config);
  const float residual = deviation / std::sqrt(2 * static_cast<float>(config.layers));
  for (const auto& shape : weights.shapes()) {
    if (shape.norm) continue;
    const std::string_view name = shape.name;
    const bool writes = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
    for (auto& w : weights.matrices().subspan(shape.offset, shape.rows * shape.cols)) {
      w = (writes ? residual : deviation) * random.normal();
    }
  }
  return weights;
}

}  // namespace crayon::train
