// SPDX-License-Identifier: MIT
// Text whose bytes are not taken for UTF-8 unseen: it comes in pieces, or from anywhere.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace crayon {

/// Bytes at the end of `text` that begin a UTF-8 character and do not finish it: 0 to 3.
[[nodiscard]] constexpr std::size_t unfinished_utf8(std::string_view text) noexcept {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0U) == 0x80U) continue;  // in the middle of a character
    const std::size_t length = byte >= 0xF0U ? 4 : byte >= 0xE0U ? 3 : byte >= 0xC0U ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

/// Bytes of the character that `text` begins with; 0: none, it is empty or no UTF-8 (a cut or
/// overlong sequence, half of a surrogate pair, beyond U+10FFFF).
[[nodiscard]] constexpr std::size_t leading_utf8(std::string_view text) noexcept {
  if (text.empty()) return 0;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80U) return 1;
  const std::size_t length = lead >= 0xF0U ? 4 : lead >= 0xE0U ? 3 : 2;
  if (lead < 0xC2U || lead > 0xF4U || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return 0;
  }
  const unsigned char next = byte(1);
  const bool overlong = (lead == 0xE0U && next < 0xA0U) || (lead == 0xF0U && next < 0x90U);
  const bool beyond = (lead == 0xEDU && next >= 0xA0U) || (lead == 0xF4U && next >= 0x90U);
  return overlong || beyond ? 0 : length;
}

/// The text with U+FFFD in place of each byte that is part of no character.
[[nodiscard]] inline std::string valid_utf8(std::string_view text) {
  std::string valid;
  while (!text.empty()) {
    const std::size_t length = leading_utf8(text);
    valid.append(length == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(0, length));
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return valid;
}

/// Holds back the start of a character until the rest of it has come.
class utf8_joiner {
 public:
  /// The whole characters among the held bytes and these; valid until the next call.
  [[nodiscard]] std::string_view add(std::string_view piece) {
    text_.erase(0, given_);
    text_ += piece;
    given_ = text_.size() - unfinished_utf8(text_);
    return std::string_view(text_).substr(0, given_);
  }

  /// What is left at the end: nothing, or a character that was never finished.
  [[nodiscard]] std::string_view rest() const noexcept {
    return std::string_view(text_).substr(given_);
  }

 private:
  std::string text_;
  std::size_t given_ = 0;
};

}  // namespace crayon
