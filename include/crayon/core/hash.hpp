// SPDX-License-Identifier: MIT
// Identity of base models and pools.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace crayon {

/// FNV-1a, 64 bits, over 8-byte words and then bytes. It tells apart files that differ by accident;
/// it is no defence against somebody who wants a collision.
class hasher {
 public:
  void add(const void* memory, std::size_t bytes) noexcept {
    const auto* p = static_cast<const unsigned char*>(memory);
    for (; bytes >= 8; p += 8, bytes -= 8) {
      std::uint64_t word = 0;
      for (int i = 0; i < 8; ++i) word |= static_cast<std::uint64_t>(p[i]) << (8 * i);
      mix(word);
    }
    for (; bytes > 0; ++p, --bytes) mix(*p);
  }
  void add(std::string_view text) noexcept { add(text.data(), text.size()); }

  [[nodiscard]] std::uint64_t value() const noexcept { return state_; }

  /// 16 lower-case hexadecimal digits.
  [[nodiscard]] std::string hex() const {
    std::string digits(16, '0');
    for (std::size_t i = 0; i < 16; ++i) {
      digits[15 - i] = "0123456789abcdef"[(state_ >> (4 * i)) & 15U];
    }
    return digits;
  }

 private:
  void mix(std::uint64_t word) noexcept {
    state_ = (state_ ^ word) * 0x100000001B3U;
    state_ ^= state_ >> 29;  // FNV alone never moves high bits down
  }

  std::uint64_t state_ = 0xCBF29CE484222325U;
};

}  // namespace crayon
