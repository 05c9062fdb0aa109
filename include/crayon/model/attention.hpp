// SPDX-License-Identifier: MIT
// Scaled dot-product attention of one query.
#pragma once

#include <cmath>
#include <cstddef>

#include <crayon/concepts.hpp>

namespace crayon::model {

/// out = softmax(K q / sqrt(head_dim))^T V for one head of one token.
/// keys and values (positions, head_dim), q and out (head_dim), scores (positions) is overwritten
/// with the attention weights.
template <kernel_backend B>
void attend(const float* q, matrix_view<const float> keys, matrix_view<const float> values,
            float* scores, float* out) {
  B::gemv(keys, q, scores);
  const float scale = 1 / std::sqrt(static_cast<float>(keys.cols));
  for (std::size_t t = 0; t < keys.rows; ++t) scores[t] *= scale;
  B::softmax(scores, keys.rows);
  B::gemv_t(values, scores, out);
}

}  // namespace crayon::model
