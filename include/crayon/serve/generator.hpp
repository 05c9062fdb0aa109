// SPDX-License-Identifier: MIT
// What a server asks a model for, and what it gets.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/serve/chat_message.hpp>

namespace crayon::serve {

/// What the server asks a generator for.
struct generation_request {
  std::string prompt;                  ///< of a chat: `last_user_message`
  std::vector<chat_message> messages;  ///< empty for /v1/completions
  generation_options options;
};

/// What a generator says about a finished answer; the text went out in pieces.
struct generation {
  std::size_t prompt_tokens = 0;
  std::size_t completion_tokens = 0;
  bool length_limit = false;  ///< it ended because of max_tokens or the context, not by itself
};

/// One model that can answer one request at a time. It may also have
/// `check(const generation_request&) -> result<void>`: whether it can answer at all, asked before
/// the first byte goes out, so that a prompt that is too long is an HTTP 400 and not a broken
/// stream.
template <class G>
concept generator = std::movable<G> && requires(G& g, const generation_request& r, piece_sink s) {
  // hands on the answer's pieces, in bytes that may end within a character; stops when s says so
  { g(r, s) } -> std::same_as<result<generation>>;
};

}  // namespace crayon::serve
