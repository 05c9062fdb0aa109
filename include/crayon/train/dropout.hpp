// SPDX-License-Identifier: MIT
// Dropout of what adapters read (Srivastava et al. 2014, placed as in PEFT: B A dropout(x)).
#pragma once

#include <cstddef>
#include <cstdint>

#include <crayon/core/rng.hpp>
#include <crayon/core/view.hpp>

namespace crayon::train {

/// Each input of an adapter's A is left out with probability `rate`, the others are divided by
/// 1 - rate. Row t of a batch at site s keeps element j where draw j of
/// rng(rng(rng(seed ^ s)() ^ t)()) is at least `rate`: masks are the same forward and backward, for
/// any number of threads, and after a restart, and none is stored.
struct adapter_dropout {
  float rate = 0;  ///< below 1; 0: nothing is left out
  std::uint64_t seed = 0;

  [[nodiscard]] bool on() const noexcept { return rate > 0; }

  /// Another mask for each step of a run.
  [[nodiscard]] adapter_dropout at_step(std::size_t step) const noexcept {
    return {rate, rng(seed + step)()};
  }

  /// y[j] = x[j] times its part of the mask, or y[j] += that where `Add`; rows of n elements.
  template <bool Add>
  void apply(std::size_t site, std::size_t row, const float* x, float* y,
             std::size_t n) const noexcept {
    rng draws(rng(rng(seed ^ site)() ^ row)());
    const float scale = 1 / (1 - rate);
    for (std::size_t j = 0; j < n; ++j) {
      const float kept = draws.uniform() < rate ? 0.0F : scale * x[j];
      y[j] = Add ? y[j] + kept : kept;
    }
  }
};

}  // namespace crayon::train
