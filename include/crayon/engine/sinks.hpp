// SPDX-License-Identifier: MIT
// Who is told of an answer while it grows.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <crayon/concepts.hpp>
#include <crayon/core/function_ref.hpp>

namespace crayon::engine {

/// Sees each token of an answer before its text goes out, and the logits that it was drawn from.
using token_sink = function_ref<void(std::int32_t token, std::span<const float> logits)>;

/// Sees the signals of an answer after each of its tokens, before that token's text goes out; false
/// breaks it off.
using signals_sink = function_ref<bool(const signals&)>;

namespace sinks {
inline constexpr auto no_pieces = [](std::string_view) { return true; };
inline constexpr auto no_tokens = [](std::int32_t, std::span<const float>) {};
inline constexpr auto go_on = [](const signals&) { return true; };
}  // namespace sinks

inline const piece_sink ignore_pieces{sinks::no_pieces};
inline const token_sink ignore_tokens{sinks::no_tokens};
inline const signals_sink always_go_on{sinks::go_on};

}  // namespace crayon::engine
