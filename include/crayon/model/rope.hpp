// SPDX-License-Identifier: MIT
// Rotary position embedding (Su et al. 2021), in the pairing of transformers.
#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>

#include <crayon/core/aligned.hpp>
#include <crayon/core/config.hpp>
#include <crayon/model/llama_config.hpp>

namespace crayon::model {

/// theta^(-2j / head_dim), scaled.
[[nodiscard]] inline double rope_frequency(std::size_t j, std::size_t head_dim, float theta,
                                           const rope_scaling& scaling) noexcept {
  const double plain =
      std::pow(double{theta}, -2.0 * static_cast<double>(j) / static_cast<double>(head_dim));
  if (scaling.factor == 1) return plain;
  const double turns =  // within the original context
      static_cast<double>(scaling.original_context) * plain / (2 * std::numbers::pi);
  const double low = scaling.low, high = scaling.high, slow = plain / double{scaling.factor};
  if (turns <= low) return slow;
  if (turns >= high) return plain;
  return slow + (turns - low) / (high - low) * (plain - slow);
}

/// Rotates element j of a head with element j + head_dim / 2 ("rotate_half") by the angle
/// position * rope_frequency(j). The angles are computed in double and stored as f32.
class rope_table {
 public:
  rope_table() = default;

  /// `head_dim` is even.
  rope_table(std::size_t head_dim, std::size_t context, float theta,
             const rope_scaling& scaling = {})
      : half_(head_dim / 2), context_(context), cos_(half_ * context), sin_(half_ * context) {
    CRAYON_ASSERT(head_dim % 2 == 0);
    for (std::size_t j = 0; j < half_; ++j) {
      const double frequency = rope_frequency(j, head_dim, theta, scaling);
      for (std::size_t position = 0; position < context; ++position) {
        const double angle = static_cast<double>(position) * frequency;
        cos_[position * half_ + j] = static_cast<float>(std::cos(angle));
        sin_[position * half_ + j] = static_cast<float>(std::sin(angle));
      }
    }
  }

  [[nodiscard]] std::size_t context() const noexcept { return context_; }
  [[nodiscard]] std::size_t head_dim() const noexcept { return 2 * half_; }

  /// One head (head_dim), in place.
  void rotate(float* head, std::size_t position) const noexcept { turn(head, position, 1); }

  /// The transpose of `rotate`, which is its inverse: what the backward pass needs.
  void rotate_back(float* head, std::size_t position) const noexcept { turn(head, position, -1); }

 private:
  void turn(float* CRAYON_RESTRICT head, std::size_t position, float direction) const noexcept {
    CRAYON_ASSERT(position < context_);
    const float* CRAYON_RESTRICT cos = cos_.data() + position * half_;
    const float* CRAYON_RESTRICT sin = sin_.data() + position * half_;
    for (std::size_t j = 0; j < half_; ++j) {
      const float a = head[j], b = head[j + half_], s = direction * sin[j];
      head[j] = a * cos[j] - b * s;
      head[j + half_] = b * cos[j] + a * s;
    }
  }

  std::size_t half_ = 0;
  std::size_t context_ = 0;
  aligned_vector<float> cos_;  // (context, head_dim / 2)
  aligned_vector<float> sin_;
};

}  // namespace crayon::model
