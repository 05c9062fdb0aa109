// SPDX-License-Identifier: MIT
// What a pool file's checksums are taken of, and the check of its numbers.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include <crayon/core/element.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/core/result.hpp>

namespace crayon::adapter {

/// The first element that is infinite or NaN. `bytes` is a multiple of 8.
[[nodiscard]] inline std::optional<std::size_t> not_finite(dtype type, const std::byte* memory,
                                                           std::size_t bytes) noexcept {
  // Exponent bits of all ones carry into the sign bit when one is added at their lowest.
  const std::uint64_t lowest = type == dtype::f32    ? 0x0080'0000'0080'0000U
                               : type == dtype::bf16 ? 0x0080'0080'0080'0080U
                                                     : 0x0400'0400'0400'0400U;
  const std::uint64_t sign = type == dtype::f32 ? 0x8000'0000'8000'0000U : 0x8000'8000'8000'8000U;
  const std::uint64_t exponent = sign - lowest;
  const auto carries = [&](std::size_t at) {
    std::uint64_t word;
    std::memcpy(&word, memory + at, 8);
    return ((word & exponent) + lowest) & sign;
  };
  std::uint64_t any = 0;
  for (std::size_t i = 0; i < bytes; i += 8) any |= carries(i);
  if (any == 0) return std::nullopt;
  std::size_t i = 0;
  while (carries(i) == 0) i += 8;
  const std::size_t bits = 8 * size_of(type);
  std::size_t in_word = 0;
  while (((carries(i) >> (bits * in_word)) & (std::uint64_t{1} << (bits - 1))) == 0) ++in_word;
  return i / size_of(type) + in_word;
}

/// The checksum of one R factor.
[[nodiscard]] inline std::uint64_t core_sum(std::span<const std::byte> bytes) noexcept {
  const std::size_t whole = bytes.size() / striped_hasher::line * striped_hasher::line;
  striped_hasher h;
  h.add(bytes.data(), whole);
  return h.value(bytes.data() + whole, bytes.size() - whole);
}

/// "p: tensor q.lora_A of adapter-3 [12] is nan": element 12 of that factor, element `at` of
/// `tile`.
[[nodiscard]] inline error not_finite_error(const std::string& path, const std::string& tensor,
                                            const std::string& who, std::size_t element, dtype type,
                                            const std::byte* tile, std::size_t at) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, tile + at * size_of(type), size_of(type));
  const auto half = static_cast<std::uint16_t>(bits);
  const float value = type == dtype::f32    ? std::bit_cast<float>(bits)
                      : type == dtype::bf16 ? to_float(bf16{half})
                                            : to_float(f16{half});
  return {errc::bad_value, path + ": tensor " + tensor + " of " + who + " [" +
                               std::to_string(element) + "] is " + std::to_string(value)};
}

}  // namespace crayon::adapter
