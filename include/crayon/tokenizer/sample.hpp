// SPDX-License-Identifier: MIT
// A prompt and its completion as the tokens that models are trained on and asked with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/concepts.hpp>

namespace crayon::tokenizer {

struct sample {
  std::string prompt;
  std::string completion;
};

struct encoded_sample {
  std::vector<std::int32_t> ids;  ///< BOS, prompt, completion, T::eos()
  std::size_t prompt_tokens = 0;  ///< BOS included
};

/// BOS and the prompt: what an answer follows.
template <text_tokenizer T>
[[nodiscard]] std::vector<std::int32_t> encode_prompt(const T& tokens, std::string_view prompt) {
  std::vector<std::int32_t> ids{tokens.bos()};
  const auto text = tokens.encode(prompt);
  ids.insert(ids.end(), text.begin(), text.end());
  return ids;
}

/// Prompt and completion are encoded apart, so that the prompt's tokens are those that
/// `encode_prompt` gives when there is no completion yet.
template <text_tokenizer T>
[[nodiscard]] encoded_sample encode_sample(const T& tokens, const sample& one) {
  encoded_sample encoded{encode_prompt(tokens, one.prompt), 0};
  encoded.prompt_tokens = encoded.ids.size();
  const auto text = tokens.encode(one.completion);
  encoded.ids.insert(encoded.ids.end(), text.begin(), text.end());
  encoded.ids.push_back(tokens.eos());
  return encoded;
}

/// Whether what a model says ends at that token.
template <text_tokenizer T>
[[nodiscard]] bool ends_text(const T& tokens, std::int32_t id) noexcept {
  if constexpr (requires { tokens.ends_text(id); }) {
    return tokens.ends_text(id);
  } else {
    return id == tokens.bos() || id == tokens.eos();
  }
}

}  // namespace crayon::tokenizer
