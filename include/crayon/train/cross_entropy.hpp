// SPDX-License-Identifier: MIT
// Softmax cross-entropy over the rows that have a target.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include <crayon/concepts.hpp>

namespace crayon::train {

struct loss_sum {
  double loss = 0;          ///< nats, summed over the scored tokens
  std::size_t correct = 0;  ///< scored tokens that are the most likely one

  loss_sum& operator+=(const loss_sum& other) noexcept {
    loss += other.loss;
    correct += other.correct;
    return *this;
  }
};

namespace detail {

/// In 16 chains, which compilers turn into vectors.
[[nodiscard]] inline float largest(const float* CRAYON_RESTRICT row, std::size_t n) noexcept {
  float top[16];
  std::size_t j = 0;
  for (float& t : top) t = row[0];
  for (; j + 16 <= n; j += 16) {
    for (std::size_t k = 0; k < 16; ++k) top[k] = row[j + k] > top[k] ? row[j + k] : top[k];
  }
  for (; j < n; ++j) top[0] = row[j] > top[0] ? row[j] : top[0];
  for (const float t : top) top[0] = t > top[0] ? t : top[0];
  return top[0];
}

}  // namespace detail

/// Sum of -log softmax(logits)[target]; logits (rows, vocab) become scale * d loss / d logits,
/// that is scale * (softmax - one hot).
template <kernel_backend B>
[[nodiscard]] loss_sum cross_entropy(matrix_view<float> logits,
                                     std::span<const std::int32_t> targets, float scale) noexcept {
  loss_sum sum;
  for (std::size_t t = 0; t < logits.rows; ++t) {
    float* row = logits.row(t);
    const auto target = static_cast<std::size_t>(targets[t]);
    const float best = detail::largest(row, logits.cols), below_best = row[target] - best;
    // The first of equals is the answer.
    if (below_best == 0 && std::find(row, row + target, best) == row + target) ++sum.correct;
    B::softmax(row, logits.cols);
    // The largest probability is 1 / sum exp(x - max), which never underflows as the target's may.
    sum.loss += -std::log(double{detail::largest(row, logits.cols)}) - double{below_best};
    row[target] -= 1;
    if (scale == 1) continue;
    for (std::size_t j = 0; j < logits.cols; ++j) row[j] *= scale;
  }
  return sum;
}

}  // namespace crayon::train
