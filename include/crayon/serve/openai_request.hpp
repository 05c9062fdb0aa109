// SPDX-License-Identifier: MIT
// A request to the server, from OpenAI's JSON.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/concepts.hpp>
#include <crayon/io/json.hpp>
#include <crayon/serve/chat_message.hpp>
#include <crayon/serve/generator.hpp>

namespace crayon::serve {

/// The limits that requests are held to.
struct request_limits {
  std::size_t max_tokens = 1024;     ///< a larger max_tokens is lowered to this
  std::size_t default_tokens = 256;  ///< when the request does not say
};

/// The models that a request may name.
struct served_models {
  std::string base;                    ///< answers a request that names none
  std::vector<std::string> adapters = {};  ///< it with one adapter
  bool blends = false;                 ///< "blend": it with a mix of its adapters, by "blend"

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> all{base};
    all.insert(all.end(), adapters.begin(), adapters.end());
    if (blends) all.push_back("blend");
    return all;
  }
};

struct parsed_request {
  generation_request generation;
  bool chat = false;
  bool stream = false;
  bool stream_usage = false;
  std::string model;  ///< as the answer names it
};

namespace detail {

using json = nlohmann::json;

[[nodiscard]] inline error bad_field(const char* field, const json& value,
                                     std::string_view expected) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return {errc::bad_value,
          std::string("'") + field + "' is " + text + ", expected " + std::string(expected)};
}

/// Fields that are absent or null keep their default.
[[nodiscard]] inline const json* field(const json& body, const char* name) {
  const auto found = body.find(name);
  return found == body.end() || found->is_null() ? nullptr : &*found;
}

[[nodiscard]] inline result<void> read_flag(const json& body, const char* name, bool& out) {
  if (const json* value = field(body, name)) {
    if (!value->is_boolean()) return bad_field(name, *value, "true or false");
    out = value->get<bool>();
  }
  return {};
}

[[nodiscard]] inline result<void> read_number(const json& body, const char* name, double low,
                                              double high, float& out) {
  if (const json* value = field(body, name)) {
    if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
      return bad_field(name, *value,
                       "a number from " + json(low).dump() + " to " + json(high).dump());
    }
    out = value->get<float>();
  }
  return {};
}

/// A string, or a list of text parts as newer clients send it.
[[nodiscard]] inline result<std::string> read_content(const json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (content.is_null()) return std::string();
  const std::string_view expected = "a string or a list of {\"type\": \"text\", \"text\": ...}";
  if (!content.is_array()) return bad_field("content", content, expected);
  std::string text;
  for (const auto& part : content) {
    if (!part.is_object() || part.value("type", json()) != "text" ||
        !part.value("text", json()).is_string()) {
      return bad_field("content", part, expected);
    }
    text += part["text"].get<std::string>();
  }
  return text;
}

[[nodiscard]] inline result<void> read_messages(const json& body, generation_request& out) {
  const json* messages = field(body, "messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    return bad_field("messages", messages ? *messages : json(), "a list of one or more messages");
  }
  for (const auto& message : *messages) {
    if (!message.is_object() || !message.value("role", json()).is_string()) {
      return bad_field("messages", message, "an object with a role and a content");
    }
    CRAYON_TRY(std::string content, read_content(message.value("content", json())));
    out.messages.push_back({message["role"].get<std::string>(), std::move(content)});
  }
  out.prompt = last_user_message(out.messages);
  if (out.prompt.empty()) {
    return error{errc::bad_value, "'messages' has no user message, or it is empty"};
  }
  return {};
}

[[nodiscard]] inline result<void> read_options(const json& body, const request_limits& limits,
                                               generation_options& out) {
  out.temperature = 1;  // OpenAI's default
  CRAYON_CHECK(read_number(body, "temperature", 0, 2, out.temperature));
  CRAYON_CHECK(read_number(body, "top_p", 0, 1, out.top_p));
  out.max_tokens = std::min(limits.default_tokens, limits.max_tokens);
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    if (const json* value = field(body, name)) {
      const auto asked = value->is_number_unsigned() ? value->get<std::uint64_t>() : 0;
      if (asked == 0) return bad_field(name, *value, "1 or more");
      out.max_tokens =
          asked < limits.max_tokens ? static_cast<std::size_t>(asked) : limits.max_tokens;
    }
  }
  if (const json* value = field(body, "seed")) {
    if (!value->is_number_integer()) return bad_field("seed", *value, "an integer");
    out.seed = value->is_number_unsigned() ? value->get<std::uint64_t>()
                                           : static_cast<std::uint64_t>(value->get<std::int64_t>());
  }
  if (const json* value = field(body, "stop")) {
    const json list = value->is_string() ? json::array({*value}) : *value;
    const std::string_view expected = "a string or a list of up to 4 strings, none empty";
    if (!list.is_array() || list.size() > 4) return bad_field("stop", *value, expected);
    for (const auto& one : list) {
      if (!one.is_string() || one.get_ref<const std::string&>().empty()) {
        return bad_field("stop", *value, expected);
      }
      out.stop.push_back(one.get<std::string>());
    }
  }
  return {};
}

/// "model" (the base, or an adapter of it) and "blend": {"name": weight, ...}.
[[nodiscard]] inline result<void> read_model(const json& body, const served_models& models,
                                             parsed_request& out) {
  out.model = models.base;
  if (const json* value = field(body, "model")) {
    if (!value->is_string()) return bad_field("model", *value, "a string");
    const auto& name = value->get_ref<const std::string&>();
    const auto& known = models.adapters;
    const bool adapter = std::find(known.begin(), known.end(), name) != known.end();
    if (name != models.base && !adapter && !(models.blends && name == "blend")) {
      std::string list;
      for (const auto& one : models.names()) list += (list.empty() ? "\"" : ", \"") + one + '"';
      return error{errc::not_found, "the model " + value->dump(-1, ' ', false,
                                                               json::error_handler_t::replace) +
                                        " does not exist; this server has " + list};
    }
    out.model = name;
    if (adapter) out.generation.adapter = name;
  }
  const bool wanted = models.blends && out.model == "blend" && out.generation.adapter.empty();
  const json* mix = field(body, "blend");
  if (mix == nullptr) {
    if (!wanted) return {};
    return bad_field("blend", json(), "weights: {\"adapter\": number, ...}");
  }
  if (!models.blends) return bad_field("blend", *mix, "none: this server has no adapters to blend");
  if (!out.generation.adapter.empty()) {
    return bad_field("blend", *mix, "none beside the model \"" + out.model + '"');
  }
  const std::string_view expected = "1 to 64 weights from -100 to 100: {\"adapter\": number, ...}";
  if (!mix->is_object() || mix->empty() || mix->size() > 64) {
    return bad_field("blend", *mix, expected);
  }
  for (const auto& [name, weight] : mix->items()) {
    if (!weight.is_number() || !(std::abs(weight.get<double>()) <= 100)) {
      return bad_field("blend", *mix, expected);
    }
    out.generation.blend.emplace_back(name, weight.get<float>());
  }
  return {};
}

/// Of chats "logprobs": true with "top_logprobs": 0 to 20, of completions "logprobs": 0 to 5.
[[nodiscard]] inline result<void> read_log_probs(const json& body, bool chat,
                                                 generation_request& out) {
  const json* asked = field(body, "logprobs");
  const json* top = field(body, "top_logprobs");
  const auto count = [&](const char* name, const json& value, std::uint64_t most) -> result<void> {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most) {
      return bad_field(name, value, "0 to " + std::to_string(most));
    }
    out.top_log_probs = value.get<std::size_t>();
    return {};
  };
  if (!chat) {
    if (asked == nullptr || *asked == false) return {};
    out.log_probs = true;
    return count("logprobs", *asked, 5);
  }
  CRAYON_CHECK(read_flag(body, "logprobs", out.log_probs));
  if (top == nullptr) return {};
  if (!out.log_probs) return bad_field("top_logprobs", *top, "none without \"logprobs\": true");
  return count("top_logprobs", *top, 20);
}

}  // namespace detail

/// The body of POST /v1/chat/completions (`chat`) or /v1/completions. Unknown fields are ignored;
/// known ones that ask for what this server does not do are refused. Ids and numbers are checked.
[[nodiscard]] inline result<parsed_request> parse_request(std::string_view text, bool chat,
                                                          const served_models& models,
                                                          const request_limits& limits) {
  using detail::json;
  const json body = io::parse_json(text);
  if (body.is_discarded()) return error{errc::bad_format, "the body is not valid JSON"};
  if (!body.is_object()) return detail::bad_field("body", body, "an object");
  for (const char* one : {"n", "best_of"}) {
    const json* value = detail::field(body, one);
    if (value && *value != 1) return detail::bad_field(one, *value, "1: one answer per request");
  }
  for (const char* unsupported :
       {"echo", "tools", "functions", "suffix", "logit_bias"}) {
    const json* value = detail::field(body, unsupported);
    if (value && *value != false && !(value->is_structured() && value->empty())) {
      return detail::bad_field(unsupported, *value, "none: this server does not support it");
    }
  }
  for (const char* penalty : {"presence_penalty", "frequency_penalty"}) {
    const json* value = detail::field(body, penalty);
    if (value && *value != 0) {
      return detail::bad_field(penalty, *value, "0: this server does not support it");
    }
  }
  if (const json* value = detail::field(body, "response_format")) {
    if (!value->is_object() || value->value("type", json()) != "text") {
      return detail::bad_field("response_format", *value, "{\"type\": \"text\"}");
    }
  }
  parsed_request parsed;
  parsed.chat = chat;
  CRAYON_CHECK(detail::read_model(body, models, parsed));
  CRAYON_CHECK(detail::read_log_probs(body, chat, parsed.generation));
  CRAYON_CHECK(detail::read_flag(body, "stream", parsed.stream));
  if (const json* value = detail::field(body, "stream_options"); value && value->is_object()) {
    CRAYON_CHECK(detail::read_flag(*value, "include_usage", parsed.stream_usage));
  }
  CRAYON_CHECK(detail::read_options(body, limits, parsed.generation.options));
  if (chat) {
    CRAYON_CHECK(detail::read_messages(body, parsed.generation));
    return parsed;
  }
  const json* prompt = detail::field(body, "prompt");
  if (prompt && prompt->is_array() && prompt->size() == 1) prompt = &(*prompt)[0];
  if (prompt == nullptr || !prompt->is_string()) {
    return detail::bad_field("prompt", prompt ? *prompt : json(), "one string");
  }
  parsed.generation.prompt = prompt->get<std::string>();
  return parsed;
}

}  // namespace crayon::serve
