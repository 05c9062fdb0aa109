// SPDX-License-Identifier: MIT
// Softmax cross-entropy over the rows that have a target.
#pragma once

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

/// Sum of -log softmax(logits)[target]; logits (rows, vocab) become scale * d loss / d logits,
/// that is scale * (softmax - one hot).
template <kernel_backend B>
[[nodiscard]] loss_sum cross_entropy(matrix_view<float> logits,
                                     std::span<const std::int32_t> targets, float scale) noexcept {
  loss_sum sum;
  for (std::size_t t = 0; t < logits.rows; ++t) {
    float* row = logits.row(t);
    std::size_t best = 0;
    for (std::size_t j = 1; j < logits.cols; ++j) best = row[j] > row[best] ? j : best;
    const auto target = static_cast<std::size_t>(targets[t]);
    const float below_best = row[target] - row[best];
    B::softmax(row, logits.cols);
    // softmax[best] = 1 / sum exp(x - max), which never underflows as softmax[target] may.
    sum.loss += -std::log(double{row[best]}) - double{below_best};
    sum.correct += best == target ? 1 : 0;
    row[target] -= 1;
    for (std::size_t j = 0; j < logits.cols; ++j) row[j] *= scale;
  }
  return sum;
}

}  // namespace crayon::train
