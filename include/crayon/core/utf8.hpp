// SPDX-License-Identifier: MIT
// Text that comes in pieces of bytes, cut where no character is.
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
