// SPDX-License-Identifier: MIT
// The answer of an OpenAI-compatible endpoint.
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/serve/transport.hpp>

namespace crayon::serve {

/// A token of the answer, where the server was asked for log-probabilities.
struct token_log_prob {
  std::string token;
  float log_prob = std::numeric_limits<float>::quiet_NaN();      ///< nats; NaN: it did not say
  std::vector<std::pair<std::string, float>> alternatives = {};  ///< the best ones at this place
};

struct completion {
  std::string text;
  std::string finish_reason;      ///< the server's word; "cancelled": the caller stopped it
  std::size_t prompt_tokens = 0;  ///< 0: the server did not say
  std::size_t completion_tokens = 0;
  std::vector<token_log_prob> tokens = {};  ///< where `client_options::logprobs` asks for them
  traffic counted = {};                     ///< by all attempts
  int status = 0;                           ///< of the last HTTP response; 0: there was none
};

namespace detail {

[[nodiscard]] inline float log_prob_of(const nlohmann::json& value) {
  return value.is_number() ? value.get<float>() : std::numeric_limits<float>::quiet_NaN();
}

[[nodiscard]] inline std::string token_of(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

/// A chat's {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": [{"token": ...}]}]}, or
/// {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": [{"a": -0.1, "b": -3}]} of a
/// completion. What is not like this is left out: no answer is lost for its sake.
inline void read_log_probs(const nlohmann::json& logprobs, std::vector<token_log_prob>& out) {
  const auto at = [](const nlohmann::json& object, const char* key) -> const nlohmann::json& {
    static const nlohmann::json nothing;
    const auto found = object.is_object() ? object.find(key) : object.end();
    return found != object.end() ? *found : nothing;
  };
  const auto element = [](const nlohmann::json& list, std::size_t i) -> const nlohmann::json& {
    static const nlohmann::json nothing;
    return list.is_array() && i < list.size() ? list[i] : nothing;
  };
  if (const auto& content = at(logprobs, "content"); content.is_array()) {
    for (const auto& one : content) {
      token_log_prob token{token_of(at(one, "token")), log_prob_of(at(one, "logprob"))};
      if (const auto& best = at(one, "top_logprobs"); best.is_array()) {
        for (const auto& other : best) {
          token.alternatives.emplace_back(token_of(at(other, "token")),
                                          log_prob_of(at(other, "logprob")));
        }
      }
      out.push_back(std::move(token));
    }
  } else if (const auto& tokens = at(logprobs, "tokens"); tokens.is_array()) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      token_log_prob token{token_of(tokens[i]),
                           log_prob_of(element(at(logprobs, "token_logprobs"), i))};
      if (const auto& best = element(at(logprobs, "top_logprobs"), i); best.is_object()) {
        for (const auto& [text, value] : best.items()) {
          token.alternatives.emplace_back(text, log_prob_of(value));
        }
      }
      out.push_back(std::move(token));
    }
  }
}

}  // namespace detail

}  // namespace crayon::serve
