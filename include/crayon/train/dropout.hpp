// SPDX-License-Identifier: MIT
// Dropout of what adapters read (Srivastava et al. 2014, placed as in PEFT: B A dropout(x)).
#pragma once

#include <cstddef>
#include <cstdint>

#include <crayon/core/config.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/core/view.hpp>

namespace crayon::train {

/// Each input of an adapter's A is left out with probability `rate`, rounded to 1/65536, the others
/// are divided by 1 - rate. Row t of a batch at site s keeps element j where 16 bits are at least
/// rate: those from bit 16 (j mod 4) of draw j / 4 of rng(rng(rng(seed ^ s)() ^ t)()). Masks are
/// the same forward and backward, for any number of threads, and after a restart, and none is
/// stored.
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
  void apply(std::size_t site, std::size_t row, const float* CRAYON_RESTRICT x,
             float* CRAYON_RESTRICT y, std::size_t n) const noexcept {
    rng draws(rng(rng(seed ^ site)() ^ row)());
    const auto least = static_cast<std::uint32_t>(65536 * rate + 0.5F);
    const float scale = 65536 / static_cast<float>(65536 - least);
    const auto some = [&](std::size_t j, std::size_t count) {
      const std::uint64_t bits = draws();
      for (std::size_t k = 0; k < count; ++k) {
        const auto part = static_cast<std::uint32_t>(bits >> (16 * k)) & 0xFFFFU;
        const float kept = x[j + k] * (part < least ? 0.0F : scale);
        y[j + k] = Add ? y[j + k] + kept : kept;
      }
    };
    std::size_t j = 0;
    for (; j + 4 <= n; j += 4) some(j, 4);
    if (j < n) some(j, n - j);
  }
};

}  // namespace crayon::train
