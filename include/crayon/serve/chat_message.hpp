// SPDX-License-Identifier: MIT
// A message of a chat, and how a plain language model reads a chat.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace crayon::serve {

struct chat_message {
  std::string role;  ///< "system", "user", "assistant"
  std::string content;
};

/// The prompt of a model that was trained on prompts and their completions, without roles: the last
/// user message, unchanged. Everything before it is dropped; a chat without a user message has no
/// prompt and gives an empty one.
[[nodiscard]] inline std::string_view last_user_message(
    std::span<const chat_message> messages) noexcept {
  for (std::size_t i = messages.size(); i-- > 0;) {
    if (messages[i].role == "user") return messages[i].content;
  }
  return {};
}

}  // namespace crayon::serve
