// SPDX-License-Identifier: MIT
// Activations that wait for the backward pass in half their size.
#pragma once

#include <cstddef>
#include <cstdint>

#include <crayon/core/aligned.hpp>
#include <crayon/core/element.hpp>
#include <crayon/core/view.hpp>

namespace crayon::train {

/// What the activations of layers are from their forward to their backward pass. Every pass
/// computes in f32: with bf16 the loss is that of f32 to the bit, and gradients are those at
/// rounded activations.
enum class activation_type : std::uint8_t { f32, bf16 };

/// Matrices rounded to bf16, read again in the order in which they were written. Its memory only
/// grows.
class rounded_tape {
 public:
  /// Before the first write, and before the first read.
  void rewind() noexcept { at_ = 0; }

  /// `from` has no gaps.
  void write(matrix_view<const float> from) {
    if (memory_.size() < at_ + from.size()) memory_.resize(at_ + from.size());
    bf16* CRAYON_RESTRICT to = memory_.data() + at_;
    const float* CRAYON_RESTRICT source = from.data;
    for (std::size_t j = 0; j < from.size(); ++j) to[j] = from_float<bf16>(source[j]);
    at_ += from.size();
  }

  /// `to` has the shape of what was written and no gaps.
  void read(matrix_view<float> to) noexcept {
    CRAYON_ASSERT(at_ + to.size() <= memory_.size());
    const bf16* CRAYON_RESTRICT from = memory_.data() + at_;
    float* CRAYON_RESTRICT target = to.data;
    for (std::size_t j = 0; j < to.size(); ++j) target[j] = to_float(from[j]);
    at_ += to.size();
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.size() * sizeof(bf16); }

 private:
  aligned_vector<bf16> memory_;
  std::size_t at_ = 0;
};

}  // namespace crayon::train
