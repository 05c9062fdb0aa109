// SPDX-License-Identifier: MIT
// JSON from outside.
#pragma once

#include <cstddef>
#include <string_view>

#include <nlohmann/json.hpp>

namespace crayon::io {

/// Levels of objects and lists in each other: far more than any format here has, far fewer than
/// fill a thread's stack (the library copies and prints JSON by recursion).
inline constexpr std::size_t deepest_json = 64;

/// Whether no value of the text is nested deeper than `deepest_json`. Brackets within strings do
/// not count.
[[nodiscard]] constexpr bool is_shallow_json(std::string_view text) noexcept {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > deepest_json) return false;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return true;
}

/// The value; discarded (is_discarded()) if the text is not JSON or nested too deeply.
template <class Json = nlohmann::json>
[[nodiscard]] Json parse_json(std::string_view text) {
  if (!is_shallow_json(text)) return Json(nlohmann::detail::value_t::discarded);
  return Json::parse(text.begin(), text.end(), nullptr, false);
}

}  // namespace crayon::io
