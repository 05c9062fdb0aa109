// SPDX-License-Identifier: MIT
// Token bytes -> the pieces of text that a caller sees.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <crayon/concepts.hpp>
#include <crayon/core/utf8.hpp>

namespace crayon::engine {

/// Hands on whole UTF-8 characters, ends before the first stop text (also one that comes in several
/// tokens), and can drop the space that a tokenizer puts before every text. Holds back only what
/// may be the start of a stop text. The stop texts outlive it.
class answer_text {
 public:
  answer_text(std::span<const std::string> stops, bool drop_first_space, piece_sink sink) noexcept
      : stops_(stops), drop_first_space_(drop_first_space), sink_(sink) {}

  /// False: no more is wanted, because of a stop text (`stopped`) or the sink.
  bool add(std::string_view bytes) {
    if (drop_first_space_ && !bytes.empty()) {
      if (bytes.front() == ' ') bytes.remove_prefix(1);
      drop_first_space_ = false;
    }
    held_ += joiner_.add(bytes);
    std::size_t end = held_.size();
    for (const auto& stop : stops_) {
      const std::size_t at = stop.empty() ? std::string::npos : held_.find(stop);
      if (at > end || at == std::string::npos) continue;
      end = at;
      stopped_ = true;
    }
    if (stopped_) {
      held_.resize(end);
      give(end);
      return false;
    }
    return give(held_.size() - unfinished_stop());
  }

  /// At the end of the answer: what was held back.
  bool finish() {
    if (stopped_) return true;
    held_ += joiner_.rest();
    return give(held_.size());
  }

  [[nodiscard]] bool stopped() const noexcept { return stopped_; }
  /// All that was handed on.
  [[nodiscard]] std::string& text() noexcept { return text_; }

 private:
  bool give(std::size_t count) {
    if (count == 0) return true;
    text_.append(held_, 0, count);
    const bool more = sink_(std::string_view(held_).substr(0, count));
    held_.erase(0, count);
    return more;
  }

  /// The longest end of the held text that is the start of a stop text.
  [[nodiscard]] std::size_t unfinished_stop() const noexcept {
    std::size_t longest = 0;
    for (const auto& stop : stops_) {
      for (std::size_t n = std::min(stop.size(), held_.size()); n > longest; --n) {
        if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, n))) longest = n;
      }
    }
    return longest;
  }

  std::span<const std::string> stops_;
  bool drop_first_space_;
  bool stopped_ = false;
  piece_sink sink_;
  utf8_joiner joiner_;
  std::string held_, text_;
};

}  // namespace crayon::engine
