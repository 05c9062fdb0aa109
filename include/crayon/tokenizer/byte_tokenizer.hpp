// SPDX-License-Identifier: MIT
// One token per byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/concepts.hpp>

namespace crayon::tokenizer {

/// <unk>, <s>, </s> and the 256 bytes at ids 3 ... 258: the part of a SentencePiece vocabulary that
/// its byte fallback needs, so ids mean the same there. Every text comes back as it was.
class byte_tokenizer {
 public:
  static constexpr std::int32_t first_byte = 3;

  [[nodiscard]] static constexpr std::size_t size() noexcept { return 256 + first_byte; }
  [[nodiscard]] static constexpr std::int32_t bos() noexcept { return 1; }
  [[nodiscard]] static constexpr std::int32_t eos() noexcept { return 2; }

  /// Without BOS.
  [[nodiscard]] static std::vector<std::int32_t> encode(std::string_view text) {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c) + first_byte);
    return ids;
  }

  /// One byte; nothing for <unk>, <s>, </s> and ids outside the vocabulary.
  [[nodiscard]] static std::string_view decode(std::int32_t id) noexcept {
    if (id < first_byte || id >= first_byte + 256) return {};
    return {&bytes[static_cast<std::size_t>(id - first_byte)], 1};
  }

  [[nodiscard]] static std::string decode(std::span<const std::int32_t> ids) {
    std::string text;
    for (const std::int32_t id : ids) text += decode(id);
    return text;
  }

 private:
  static constexpr std::array<char, 256> bytes = [] {
    std::array<char, 256> all{};
    for (int i = 0; i < 256; ++i) all[static_cast<std::size_t>(i)] = static_cast<char>(i);
    return all;
  }();
};
static_assert(text_tokenizer<byte_tokenizer>);

}  // namespace crayon::tokenizer
