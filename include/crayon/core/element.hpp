// SPDX-License-Identifier: MIT
// The element types of factors and weights, and their conversions.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace crayon {

/// bfloat16: the upper half of an f32. Storage only; arithmetic happens in f32.
struct bf16 {
  std::uint16_t bits;
  friend constexpr bool operator==(bf16, bf16) = default;
};

/// IEEE 754 binary16. Storage only; arithmetic happens in f32.
struct f16 {
  std::uint16_t bits;
  friend constexpr bool operator==(f16, f16) = default;
};

template <class E>
concept element = std::same_as<E, float> || std::same_as<E, bf16> || std::same_as<E, f16>;

/// The run-time name of an element type.
enum class dtype : std::uint8_t { f32, bf16, f16 };

template <element E>
inline constexpr dtype dtype_of = std::same_as<E, float>  ? dtype::f32
                                  : std::same_as<E, bf16> ? dtype::bf16
                                                          : dtype::f16;

/// The name as safetensors spells it.
[[nodiscard]] constexpr std::string_view name(dtype type) noexcept {
  switch (type) {
    case dtype::f32: return "F32";
    case dtype::bf16: return "BF16";
    case dtype::f16: return "F16";
  }
  return "?";
}

[[nodiscard]] constexpr std::size_t size_of(dtype type) noexcept {
  return type == dtype::f32 ? 4 : 2;
}

/// Unit roundoff: the relative error of one rounding to nearest.
template <element E>
inline constexpr float unit_roundoff = std::same_as<E, float>  ? 0x1p-24F
                                       : std::same_as<E, bf16> ? 0x1p-8F
                                                               : 0x1p-11F;

[[nodiscard]] constexpr float to_float(float value) noexcept { return value; }

[[nodiscard]] constexpr float to_float(bf16 value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

[[nodiscard]] constexpr float to_float(f16 value) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000U) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1FU;
  const std::uint32_t mantissa = value.bits & 0x3FFU;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

/// Rounds to nearest, ties to even. NaN stays NaN; overflow becomes infinity.
template <element E>
[[nodiscard]] constexpr E from_float(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if constexpr (std::same_as<E, float>) {
    return value;
  } else if constexpr (std::same_as<E, bf16>) {
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
      return bf16{static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
    }
    return bf16{static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16)};
  } else {
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return f16{static_cast<std::uint16_t>(sign | 0x7E00U)};
    if (magnitude >= 0x477FF000U) return f16{static_cast<std::uint16_t>(sign | 0x7C00U)};
    if (magnitude < 0x38800000U) {
      // Below the smallest normal f16: adding 0.5 aligns the f32 mantissa to 2^-24 and rounds.
      const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
      const std::uint32_t rounded = std::bit_cast<std::uint32_t>(aligned) - 0x3F000000U;
      return f16{static_cast<std::uint16_t>(sign | rounded)};
    }
    const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U) - (112U << 23);
    return f16{static_cast<std::uint16_t>(sign | (rounded >> 13))};
  }
}

}  // namespace crayon
