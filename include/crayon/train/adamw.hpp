// SPDX-License-Identifier: MIT
// AdamW (Loshchilov, Hutter 2019) and clipping by the global norm, on both cores and reproducible.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>

namespace crayon::train {

/// Defaults as in torch.optim.AdamW, but for the decay.
struct adamw_options {
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float epsilon = 1e-8F;
  float decay = 0;  ///< decoupled: w -= rate * decay * w, before the step
};

/// Parameters that are updated alike, and their gradient.
struct parameter_group {
  std::span<float> values;
  std::span<const float> gradient;
  bool decays = true;
};

/// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate m^ / (sqrt(v^) + eps), m^ and v^
/// with bias correction.
class adamw {
 public:
  adamw() = default;
  explicit adamw(adamw_options options) : options_(options) {}

  /// One step over all groups; they must have the same sizes in every call. Each gradient is
  /// multiplied by `gradient_scale` first.
  template <executor X>
  void step(std::span<const parameter_group> groups, float rate, float gradient_scale, X& tasks) {
    std::size_t count = 0;
    for (const auto& g : groups) count += g.values.size();
    if (m_.size() != count) {
      m_.assign(count, 0.0F);
      v_.assign(count, 0.0F);
      steps_ = 0;
    }
    ++steps_;
    const double t = static_cast<double>(steps_);
    const constants k{options_.beta1,
                      options_.beta2,
                      static_cast<float>(double{rate} / (1 - std::pow(options_.beta1, t))),
                      static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, t))),
                      options_.epsilon,
                      gradient_scale};
    std::size_t offset = 0;
    for (const auto& g : groups) {
      const float keep = g.decays ? 1 - rate * options_.decay : 1.0F;
      const std::size_t parts = (g.values.size() + grain - 1) / grain;
      tasks.parallel_for(parts, [&, offset](std::size_t part) {
        const std::size_t first = part * grain;
        const std::size_t n = std::min(grain, g.values.size() - first);
        update(k, keep, g.values.data() + first, g.gradient.data() + first,
               m_.data() + offset + first, v_.data() + offset + first, n);
      });
      offset += g.values.size();
    }
  }

  [[nodiscard]] std::size_t steps() const noexcept { return steps_; }
  /// Bytes of the moments.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return (m_.size() + v_.size()) * sizeof(float);
  }
  /// Those of all groups, one after the other; empty before the first step.
  [[nodiscard]] std::span<const float> first_moments() const noexcept { return m_; }
  [[nodiscard]] std::span<const float> second_moments() const noexcept { return v_; }

  /// Goes on where another one stood.
  void restore(std::span<const float> m, std::span<const float> v, std::size_t steps) {
    m_.assign(m.begin(), m.end());
    v_.assign(v.begin(), v.end());
    steps_ = steps;
  }

 private:
  struct constants {
    float beta1, beta2;
    float rate;        ///< rate / (1 - beta1^t)
    float root_scale;  ///< 1 / sqrt(1 - beta2^t)
    float epsilon;
    float gradient_scale;
  };
  static constexpr std::size_t grain = 16384;

  static void update(const constants& k, float keep, float* CRAYON_RESTRICT w,
                     const float* CRAYON_RESTRICT gradient, float* CRAYON_RESTRICT m,
                     float* CRAYON_RESTRICT v, std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j) {
      const float g = gradient[j] * k.gradient_scale;
      m[j] = k.beta1 * m[j] + (1 - k.beta1) * g;
      v[j] = k.beta2 * v[j] + (1 - k.beta2) * g * g;
      w[j] = keep * w[j] - k.rate * m[j] / (std::sqrt(v[j]) * k.root_scale + k.epsilon);
    }
  }

  adamw_options options_;
  aligned_vector<float> m_, v_;
  std::size_t steps_ = 0;
};

/// What a gradient of that norm is multiplied by so that it is at most `limit`; 1 for limit 0.
/// As torch.nn.utils.clip_grad_norm_.
[[nodiscard]] inline float clip_scale(double norm, float limit) noexcept {
  if (limit <= 0) return 1;
  return std::min(1.0F, static_cast<float>(double{limit} / (norm + 1e-6)));
}

}  // namespace crayon::train
