// SPDX-License-Identifier: MIT
// What follows the last layer: final norm, logits and loss, and the way back.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include <crayon/concepts.hpp>
#include <crayon/train/base_weights.hpp>
#include <crayon/train/cross_entropy.hpp>
#include <crayon/train/elementwise.hpp>
#include <crayon/train/gradient_sink.hpp>
#include <crayon/train/llama_buffers.hpp>

namespace crayon::train {

/// Loss of the rows in `b.scored`, some rows at a time, with scale * its gradient by them in
/// `b.d_scored` and those of head and norm added to `sink`. Returns the unscaled sum.
template <kernel_backend B>
loss_sum scored_loss(const base_weights& weights, llama_buffers& b, const gradient_sink& sink,
                     float scale) {
  using matrix = matrix_view<float>;
  using const_matrix = matrix_view<const float>;
  const float epsilon = weights.config().norm_epsilon;
  const float* norm = weights.final_norm();
  const base_matrix w = weights.head();
  const matrix normed = b.scored_normed.view(), d_normed = b.d_scored_normed.view();
  rms_norm_forward<B>(b.scored.view(), norm, epsilon, normed);
  loss_sum sum;
  const std::size_t chunk = b.logits.view().rows;
  for (std::size_t first = 0; first < normed.rows; first += chunk) {
    const std::size_t count = std::min(chunk, normed.rows - first);
    const matrix logits = b.logits.view().rows_from(0, count);
    const const_matrix x = normed.rows_from(first, count), d_logits = logits;
    base_forward<B>(x, w, logits, false);
    sum += cross_entropy<B>(
        logits, std::span<const std::int32_t>(b.scored_targets).subspan(first, count), scale);
    if (sink.frozen()) continue;
    if (sink.matrices != nullptr) {
      B::gemm_tn(d_logits, x, matrix(sink.matrices + w.offset, w.rows, w.cols), true);
    }
    base_backward<B>(d_logits, w, d_normed.rows_from(first, count), false);
  }
  if (sink.frozen()) return sum;
  std::fill_n(b.d_scored.data(), b.d_scored.view().size(), 0.0F);
  rms_norm_backward<B>(
      b.scored.view(), norm, epsilon, d_normed, b.d_scored.view(),
      sink.norms == nullptr ? nullptr : sink.norms + (norm - weights.norms().data()),
      b.scratch.data());
  return sum;
}

}  // namespace crayon::train
