// SPDX-License-Identifier: MIT
// What a server asks a model for, and what it gets.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <utility>
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
  std::string adapter = {};  ///< by name; empty: the generator's own
  std::vector<std::pair<std::string, float>> blend = {};  ///< or a mix of adapters and weights
  bool log_probs = false;         ///< the generator fills a `token_log`
  std::size_t top_log_probs = 0;  ///< and adds so many of the likeliest tokens
};

/// One token and what the model thought of it, before any temperature.
struct token_score {
  std::string bytes;
  float log_prob = 0;  ///< nats
};
struct scored_token {
  token_score chosen;
  std::vector<token_score> top;  ///< the likeliest ones, in order
};
using token_log = std::vector<scored_token>;

/// What a generator says about a finished answer; the text went out in pieces.
struct generation {
  std::size_t prompt_tokens = 0;
  std::size_t completion_tokens = 0;
  bool length_limit = false;  ///< it ended because of max_tokens or the context, not by itself
};

/// One model that can answer one request at a time. It may also have
/// `check(const generation_request&) -> result<void>`: whether it can answer at all, asked before
/// the first byte goes out, so that a prompt that is too long is an HTTP 400 and not a broken
/// stream. And it may take a third argument, a `token_log&` that it fills as it goes: then clients
/// may ask for log-probabilities.
template <class G>
concept generator = std::movable<G> && requires(G& g, const generation_request& r, piece_sink s) {
  // hands on the answer's pieces, in bytes that may end within a character; stops when s says so
  { g(r, s) } -> std::same_as<result<generation>>;
};

template <class G>
concept scoring_generator = generator<G> &&
    requires(G& g, const generation_request& r, piece_sink s, token_log& log) {
  { g(r, s, log) } -> std::same_as<result<generation>>;  // a token is in the log before its piece
};

}  // namespace crayon::serve
