// SPDX-License-Identifier: MIT
// exp for loops that a compiler vectorises.
#pragma once

#include <bit>
#include <cstdint>

namespace crayon::train {

/// e^x to about 2e-7 relative; x is clamped to [-87, 88]. 2^n is put into the exponent bits and
/// e^f, |f| <= ln 2 / 2, is a polynomial (Cephes expf).
[[nodiscard]] inline float exponential(float x) noexcept {
  x = x < -87.0F ? -87.0F : x;
  x = x > 88.0F ? 88.0F : x;
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the low mantissa bits.
  const float shifted = x * 1.44269504F + 12582912.0F;
  const float n = shifted - 12582912.0F;
  const float f = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * f + 1.3981999507e-3F;
  p = p * f + 8.3334519073e-3F;
  p = p * f + 4.1665795894e-2F;
  p = p * f + 1.6666665459e-1F;
  p = p * f + 5.0000001201e-1F;
  p = p * f * f + f + 1;
  const std::uint32_t power = std::bit_cast<std::uint32_t>(shifted) << 23;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + power);
}

}  // namespace crayon::train
