// SPDX-License-Identifier: MIT
// The regular expressions of PEFT's rank_pattern and alpha_pattern.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/core/result.hpp>

namespace crayon::adapter {

/// Matches one pattern against one module name as PEFT does, re.match(r"(.*\.)?(PATTERN)$", name):
/// the pattern covers the whole name, or the end of it that follows a dot. Understands what such
/// patterns are made of: literals, . | ( ) (?: ) [ ] * + ? {m,n} ^ $ \d \w \s and escaped
/// punctuation. Anything else (look-ahead, back-references) is an error, never a silent mismatch.
///
/// Works on the set of positions in the name that the pattern read so far can end at: no pattern
/// backtracks. Repeats of repeats that would take more than 2^16 steps are an error.
class module_pattern {
 public:
  [[nodiscard]] static result<bool> matches(std::string_view pattern, std::string_view name) {
    module_pattern m(pattern, name);
    positions start(name.size() + 1);
    for (std::size_t i = 0; i <= name.size(); ++i) start[i] = i == 0 || name[i - 1] == '.';
    const positions ends = m.alternatives(start, 0);
    if (m.steps_ > most_steps) {
      return error{errc::unsupported,
                   "pattern \"" + std::string(pattern) + "\" repeats too many repeats"};
    }
    if (m.good_ && m.at_ != pattern.size()) m.good_ = false;  // a ")" too many
    if (!m.good_) {
      return error{errc::unsupported, "pattern \"" + std::string(pattern) +
                                          "\" is not understood at character " +
                                          std::to_string(m.at_ + 1)};
    }
    return bool{ends[name.size()]};
  }

  /// The pattern that matches this name and no other.
  [[nodiscard]] static std::string exactly(std::string_view name) {
    std::string pattern = "^";
    for (const char c : name) {
      const bool plain =
          c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      pattern.append(plain ? "" : "\\").append(1, c);
    }
    return pattern;
  }

 private:
  using positions = std::vector<bool>;
  static constexpr std::size_t deepest = 32;
  static constexpr std::size_t most_repeats = 1000;
  static constexpr std::size_t most_steps = std::size_t{1} << 16;

  module_pattern(std::string_view pattern, std::string_view name)
      : pattern_(pattern), name_(name) {}

  [[nodiscard]] bool more() const { return good_ && at_ < pattern_.size(); }
  [[nodiscard]] bool next_is(char c) const { return more() && pattern_[at_] == c; }
  bool take(char c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }

  /// Reads until ")" or the end.
  positions alternatives(const positions& from, std::size_t depth) {
    positions ends(from.size());
    if (depth > deepest) {
      good_ = false;
      return ends;
    }
    do {
      positions here = from;
      while (more() && !next_is('|') && !next_is(')')) here = repeated(here, depth);
      join(ends, here);
    } while (take('|'));
    return ends;
  }

  /// One atom with its quantifier.
  positions repeated(const positions& from, std::size_t depth) {
    const std::size_t atom_at = at_;
    positions once = atom(from, depth);
    std::size_t least = 1, most = 1;
    if (!quantifier(least, most)) return once;
    take('?');  // lazy: the same names match
    const std::size_t after = at_;
    positions ends(from.size());
    positions here = from;
    if (least == 0) ends = from;
    for (std::size_t count = 1; count <= most && good_; ++count) {
      at_ = atom_at;
      positions next = atom(here, depth);
      const bool same = next == here;  // and so they are however often it repeats
      here = std::move(next);
      if (std::find(here.begin(), here.end(), true) == here.end()) break;
      if (count < least && !same) continue;
      const positions before = ends;
      join(ends, here);
      if (same || ends == before) break;
    }
    if (good_) at_ = after;
    return ends;
  }

  bool quantifier(std::size_t& least, std::size_t& most) {
    if (take('*')) return least = 0, most = unbounded, true;
    if (take('+')) return most = unbounded, true;
    if (take('?')) return least = 0, true;
    if (!take('{')) return false;
    least = 0;
    const auto low = number();
    least = most = low.value_or(0);
    if (take(',')) most = number().value_or(unbounded);
    good_ &= low.has_value() && take('}') && least <= most && least <= most_repeats;
    return true;
  }

  std::optional<std::size_t> number() {
    std::optional<std::size_t> value;
    while (more() && pattern_[at_] >= '0' && pattern_[at_] <= '9' && value.value_or(0) < 10000) {
      value = value.value_or(0) * 10 + static_cast<std::size_t>(pattern_[at_++] - '0');
    }
    return value;
  }

  positions atom(const positions& from, std::size_t depth) {
    if (++steps_ > most_steps) {
      good_ = false;
      return from;
    }
    const char c = pattern_[at_++];
    if (c == '(') {
      if (take('?') && !take(':')) good_ = false;
      positions ends = alternatives(from, depth + 1);
      good_ &= take(')');
      return ends;
    }
    if (c == '^' || c == '$') {
      positions ends(from.size());
      const std::size_t edge = c == '^' ? 0 : name_.size();
      ends[edge] = from[edge];
      return ends;
    }
    if (c == '*' || c == '+' || c == '?' || c == '{') {
      --at_;
      good_ = false;
      return from;
    }
    const std::size_t atom_at = --at_;
    positions ends(from.size());
    bool read = false;
    for (std::size_t i = 0; i < name_.size() && good_; ++i) {
      if (!from[i] && read) continue;
      at_ = atom_at;
      ends[i + 1] = one(name_[i]) && from[i];
      read = true;
    }
    if (!read && good_) one('\0');
    return ends;
  }

  /// Reads a literal, ".", an escape or a class, and says whether `c` is in it.
  bool one(char c) {
    const char p = pattern_[at_++];
    if (p == '.') return c != '\n';
    if (p == '\\') return escaped(c);
    if (p != '[') return c == p;
    const bool negated = take('^');
    bool in = false, first = true;
    while (good_ && (first || !next_is(']'))) {
      if (!more()) return good_ = false;
      first = false;
      if (take('\\')) {
        in |= escaped(c);
        continue;
      }
      const char low = pattern_[at_++];
      char high = low;
      if (next_is('-') && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']') {
        high = pattern_[at_ + 1];
        at_ += 2;
        if (high == '\\' || high < low) good_ = false;
      }
      in |= low <= c && c <= high;
    }
    good_ &= take(']');
    return in != negated;
  }

  bool escaped(char c) {
    if (!more()) return good_ = false;
    const char p = pattern_[at_++];
    const bool digit = c >= '0' && c <= '9';
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (p == 'd' || p == 'D') return digit == (p == 'd');
    if (p == 'w' || p == 'W') return (digit || letter || c == '_') == (p == 'w');
    if (p == 's' || p == 'S') return (c == ' ' || (c >= '\t' && c <= '\r')) == (p == 's');
    const bool alphanumeric =
        (p >= '0' && p <= '9') || (p >= 'a' && p <= 'z') || (p >= 'A' && p <= 'Z');
    if (alphanumeric) good_ = false;
    return c == p;
  }

  static void join(positions& into, const positions& from) {
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = into[i] || from[i];
  }

  static constexpr std::size_t unbounded = ~std::size_t{0};

  std::string_view pattern_;
  std::string_view name_;
  std::size_t at_ = 0;
  std::size_t steps_ = 0;
  bool good_ = true;
};

}  // namespace crayon::adapter
