// SPDX-License-Identifier: MIT
// The learning rate of each step.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <string_view>

namespace crayon::train {

/// The rate of step 0 ... steps - 1 of a run.
template <class S>
concept learning_schedule = requires(const S& s, std::size_t step, std::size_t steps) {
  { s.rate(step, steps) } -> std::same_as<float>;  // rate of `step` in a run of `steps`
};

/// Part of the peak at `step` when the first `warm_up` steps rise linearly to it.
[[nodiscard]] constexpr float warm_up_part(std::size_t step, std::size_t warm_up) noexcept {
  return step < warm_up ? static_cast<float>(step + 1) / static_cast<float>(warm_up) : 1.0F;
}

/// How much of the run after the warm-up is done at `step`, in [0, 1].
[[nodiscard]] constexpr float done_part(std::size_t step, std::size_t warm_up,
                                        std::size_t steps) noexcept {
  if (step < warm_up || steps <= warm_up) return 0;
  const float part = static_cast<float>(step - warm_up) / static_cast<float>(steps - warm_up);
  return part < 1 ? part : 1.0F;
}

struct constant_schedule {
  float peak = 1e-3F;
  std::size_t warm_up = 0;

  [[nodiscard]] constexpr float rate(std::size_t step, std::size_t) const noexcept {
    return peak * warm_up_part(step, warm_up);
  }
};
static_assert(learning_schedule<constant_schedule>);

/// From the peak straight down to `floor` * peak.
struct linear_schedule {
  float peak = 1e-3F;
  std::size_t warm_up = 0;
  float floor = 0;

  [[nodiscard]] constexpr float rate(std::size_t step, std::size_t steps) const noexcept {
    const float left = 1 - done_part(step, warm_up, steps);
    return peak * warm_up_part(step, warm_up) * (floor + (1 - floor) * left);
  }
};
static_assert(learning_schedule<linear_schedule>);

/// From the peak along half a cosine down to `floor` * peak.
struct cosine_schedule {
  float peak = 1e-3F;
  std::size_t warm_up = 0;
  float floor = 0;

  [[nodiscard]] float rate(std::size_t step, std::size_t steps) const noexcept {
    const float left = 0.5F + 0.5F * std::cos(3.14159265F * done_part(step, warm_up, steps));
    return peak * warm_up_part(step, warm_up) * (floor + (1 - floor) * left);
  }
};
static_assert(learning_schedule<cosine_schedule>);

/// One of the three, chosen at run time.
struct chosen_schedule {
  enum class kind { cosine, linear, constant };

  float peak = 1e-3F;
  std::size_t warm_up = 0;
  float floor = 0;  ///< of the constant: none
  kind which = kind::cosine;

  [[nodiscard]] static constexpr std::string_view name_of(kind k) noexcept {
    return k == kind::cosine ? "cosine" : k == kind::linear ? "linear" : "constant";
  }
  [[nodiscard]] float rate(std::size_t step, std::size_t steps) const noexcept {
    if (which == kind::linear) return linear_schedule{peak, warm_up, floor}.rate(step, steps);
    if (which == kind::constant) return constant_schedule{peak, warm_up}.rate(step, steps);
    return cosine_schedule{peak, warm_up, floor}.rate(step, steps);
  }
};
static_assert(learning_schedule<chosen_schedule>);

}  // namespace crayon::train
