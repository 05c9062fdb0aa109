// SPDX-License-Identifier: MIT
// How an HTTP body says that it is a `blend_request`.
#pragma once

#include <optional>
#include <string_view>

#include <crayon/match/blend_request.hpp>

namespace crayon::serve {

/// What the content type of a `blend_request` says, and the other way round.
inline constexpr std::string_view scores_f32_type = "application/vnd.crayon.scores-f32";
inline constexpr std::string_view scores_u8_type = "application/vnd.crayon.scores-u8";

[[nodiscard]] constexpr std::string_view content_type(match::score_encoding encoding) noexcept {
  return encoding == match::score_encoding::f32 ? scores_f32_type : scores_u8_type;
}
[[nodiscard]] constexpr std::optional<match::score_encoding> encoding_of(
    std::string_view type) noexcept {
  if (type == scores_f32_type) return match::score_encoding::f32;
  if (type == scores_u8_type) return match::score_encoding::u8;
  return std::nullopt;
}

}  // namespace crayon::serve
