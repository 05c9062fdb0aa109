// SPDX-License-Identifier: MIT
// The JSON that answers a request, as OpenAI's clients read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/serve/generator.hpp>

namespace crayon::serve {

/// JSON of any bytes: those that are not UTF-8 are replaced.
[[nodiscard]] inline std::string dump_json(const nlohmann::json& body) {
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// OpenAI's shape of an error.
[[nodiscard]] inline std::string error_body(std::string_view message, std::string_view type,
                                            std::string_view code) {
  return dump_json(
      {{"error", {{"message", message}, {"type", type}, {"param", nullptr}, {"code", code}}}});
}

/// The fields that all answers of one request share.
struct answer_frame {
  std::string id;
  std::string model;
  std::int64_t created = 0;  ///< Unix time
  bool chat = false;
  bool log_probs = false;

  /// A whole answer; `log` has all its tokens, if they were asked for.
  [[nodiscard]] std::string document(std::string_view text, const generation& done,
                                     const token_log& log = {}) const {
    auto body = base(chat ? "chat.completion" : "text_completion");
    auto& choice = body["choices"][0];
    std::size_t offset = 0;
    choice = {{"index", 0}, {"logprobs", scores(log, offset)}, {"finish_reason", reason(done)}};
    if (chat) {
      choice["message"] = {{"role", "assistant"}, {"content", text}};
    } else {
      choice["text"] = text;
    }
    body["usage"] = usage(done);
    return dump_json(body);
  }

  /// The first event of a chat's stream.
  [[nodiscard]] std::string role_event() const {
    return event({{"role", "assistant"}, {"content", ""}}, "", {}, nullptr);
  }
  /// An event with a piece of text and the tokens since the last one. `offset`: of the text so far,
  /// moved on.
  [[nodiscard]] std::string piece_event(std::string_view text, const token_log& log,
                                        std::size_t& offset) const {
    return event({{"content", text}}, text, scores(log, offset), nullptr);
  }
  /// The last event, with the tokens that no piece came of.
  [[nodiscard]] std::string last_event(const generation& done, const token_log& log,
                                       std::size_t& offset) const {
    const bool any = !log.empty();
    return event(nlohmann::json::object(), "", any ? scores(log, offset) : nullptr, &done);
  }

  /// The event that clients ask for with stream_options.include_usage.
  [[nodiscard]] std::string usage_event(const generation& done) const {
    auto body = base(chat ? "chat.completion.chunk" : "text_completion");
    body["choices"] = nlohmann::json::array();
    body["usage"] = usage(done);
    return "data: " + dump_json(body) + "\n\n";
  }

 private:
  using json = nlohmann::json;

  [[nodiscard]] json base(const char* object) const {
    return {{"id", id}, {"object", object}, {"created", created}, {"model", model}};
  }
  [[nodiscard]] static const char* reason(const generation& done) {
    return done.length_limit ? "length" : "stop";
  }
  [[nodiscard]] static json usage(const generation& done) {
    return {{"prompt_tokens", done.prompt_tokens},
            {"completion_tokens", done.completion_tokens},
            {"total_tokens", done.prompt_tokens + done.completion_tokens}};
  }

  [[nodiscard]] std::string event(json delta, std::string_view text, json log,
                                  const generation* done) const {
    auto body = base(chat ? "chat.completion.chunk" : "text_completion");
    auto& choice = body["choices"][0];
    choice = {{"index", 0}, {"logprobs", std::move(log)}, {"finish_reason", nullptr}};
    if (done != nullptr) choice["finish_reason"] = reason(*done);
    if (chat) {
      choice["delta"] = std::move(delta);
    } else {
      choice["text"] = text;
    }
    return "data: " + dump_json(body) + "\n\n";
  }

  [[nodiscard]] json scores(const token_log& log, std::size_t& offset) const {
    if (!log_probs) return nullptr;
    if (!chat) return completion_scores(log, offset);
    const auto one = [](const token_score& t) {
      json bytes = json::array();
      for (const char c : t.bytes) bytes.push_back(static_cast<unsigned char>(c));
      return json{{"token", t.bytes}, {"logprob", t.log_prob}, {"bytes", std::move(bytes)}};
    };
    json list = json::array();
    for (const auto& token : log) {
      list.push_back(one(token.chosen));
      json& top = list.back()["top_logprobs"] = json::array();
      for (const auto& t : token.top) top.push_back(one(t));
    }
    return {{"content", std::move(list)}, {"refusal", nullptr}};
  }

  [[nodiscard]] static json completion_scores(const token_log& log, std::size_t& offset) {
    json out{{"tokens", json::array()},
             {"token_logprobs", json::array()},
             {"top_logprobs", json::array()},
             {"text_offset", json::array()}};
    for (const auto& token : log) {
      out["tokens"].push_back(token.chosen.bytes);
      out["token_logprobs"].push_back(token.chosen.log_prob);
      json top = json::object();
      for (const auto& t : token.top) {  // keys must be text for whoever reads them back
        top[json::parse(dump_json(t.bytes)).get<std::string>()] = t.log_prob;
      }
      out["top_logprobs"].push_back(std::move(top));
      out["text_offset"].push_back(offset);
      offset += token.chosen.bytes.size();
    }
    return out;
  }
};

}  // namespace crayon::serve
