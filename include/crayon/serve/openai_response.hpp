// SPDX-License-Identifier: MIT
// Reads the answer of an OpenAI-compatible endpoint while it comes in.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <crayon/concepts.hpp>
#include <crayon/core/utf8.hpp>
#include <crayon/io/json.hpp>
#include <crayon/serve/completion.hpp>
#include <crayon/serve/sse.hpp>

namespace crayon::serve {

namespace detail {

/// The start of something that came instead of what was expected, fit for one line of an error.
[[nodiscard]] inline std::string excerpt(std::string_view text, std::size_t length = 60) {
  std::string line = "\"";
  std::string_view start = text.substr(0, length);
  start.remove_suffix(unfinished_utf8(start));
  for (const char c : start) {
    line += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c;
  }
  return line + (start.size() < text.size() ? "...\"" : "\"");
}

/// `object[key]` where it is a string, else the fallback.
[[nodiscard]] inline std::string string_at(const nlohmann::json& object, const char* key,
                                           std::string fallback = {}) {
  if (!object.is_object()) return fallback;
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>()
                                                     : std::move(fallback);
}

[[nodiscard]] inline std::size_t count_at(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return 0;
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::size_t>() : 0;
}

/// The message of {"error": {"message": ...}} or {"error": "..."}; nothing if it is not an error.
[[nodiscard]] inline std::optional<std::string> error_message(const nlohmann::json& body) {
  if (!body.is_object()) return std::nullopt;
  const auto found = body.find("error");
  if (found == body.end() || found->is_null()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  return string_at(*found, "message", found->dump());
}

/// Understands one response as it comes in: a stream of events, one JSON document, or neither. A
/// server may repeat the key that it was sent; no error does.
class response_reader {
 public:
  response_reader(const std::string& url, const std::string& secret, piece_sink on_piece,
                  completion& answer)
      : url_(url), secret_(secret), on_piece_(on_piece), answer_(answer) {}

  /// True from the first piece of the answer on.
  [[nodiscard]] const bool& answering() const noexcept { return answering_; }

  bool take(const response_head& head, std::string_view bytes) {
    if (is_stream(head)) {
      return events_.feed(bytes, [&](const sse_event& event) { return take_event(event); });
    }
    // An error page is read only as far as its message may reach.
    const std::size_t most = head.status == 200 ? bytes.size() : std::size_t{65536} - body_.size();
    body_ += bytes.substr(0, most);
    return head.status == 200 || body_.size() < 65536;
  }

  /// After the last byte: what is still missing?
  [[nodiscard]] result<void> finish(const response_head& head) {
    if (failure_) return *failure_;
    if (is_stream(head)) {
      if (done_ || cancelled_) return {};
      return network("the stream ended after " + std::to_string(events_.count()) +
                     " events without [DONE]: the answer is truncated");
    }
    const auto body = io::parse_json(body_);
    if (head.status != 200) {
      const auto message = error_message(body);
      return network("HTTP " + std::to_string(head.status) +
                     (head.retry_after.empty() ? "" : ", retry after " + quote(head.retry_after)) +
                     ", " + (message ? quote(*message, 300) : came(head)) +
                     " instead of an answer");
    }
    if (head.content_type.find("json") == std::string::npos) {
      return network("HTTP 200 with " + came(head) + " where JSON was expected");
    }
    if (body.is_discarded()) return network("HTTP 200 with malformed JSON: " + quote(body_));
    if (!take_document(body, "message")) {
      return failure_ ? *failure_ : network("JSON without choices: " + quote(body_));
    }
    return {};
  }

  [[nodiscard]] bool done() const noexcept { return done_ || cancelled_ || failure_; }

 private:
  [[nodiscard]] static bool is_stream(const response_head& head) noexcept {
    return head.status == 200 && head.content_type.starts_with("text/event-stream");
  }

  [[nodiscard]] std::string came(const response_head& head) const {
    const std::string type = head.content_type.empty() ? "no content type" : head.content_type;
    return without_key(type) + ' ' + quote(body_);
  }

  [[nodiscard]] std::string quote(std::string_view text, std::size_t length = 60) const {
    return excerpt(without_key(text), length);
  }

  [[nodiscard]] std::string without_key(std::string_view text) const {
    std::string clean(text.substr(0, 65536));
    if (!secret_.empty()) {
      for (std::size_t at = 0; (at = clean.find(secret_, at)) != std::string::npos; ++at) {
        clean.replace(at, secret_.size(), "*");
      }
    }
    return clean;
  }

  [[nodiscard]] error network(std::string what) const {
    return {errc::network_failed, url_ + ": " + std::move(what)};
  }

  bool take_event(const sse_event& event) {
    if (event.data == "[DONE]") {
      done_ = true;
      return false;
    }
    const auto body = io::parse_json(event.data);
    if (body.is_discarded()) {
      failure_ = network("event " + std::to_string(events_.count()) +
                         " is malformed JSON: " + quote(event.data));
    } else if (!take_document(body, "delta") && !failure_ && !body.contains("choices") &&
               !body.contains("usage")) {
      failure_ = network("event " + std::to_string(events_.count()) +
                         " has no choices: " + quote(event.data));
    }
    return !failure_ && !cancelled_;
  }

  /// One choice: {"delta" or "message": {"content": ...}} of a chat, or {"text": ...}.
  bool take_document(const nlohmann::json& body, const char* message) {
    if (const auto text = error_message(body)) {
      failure_ = network("the server reports an error: " + quote(*text, 300));
      return false;
    }
    if (!body.is_object()) return false;
    if (const auto usage = body.find("usage"); usage != body.end() && usage->is_object()) {
      answer_.prompt_tokens = count_at(*usage, "prompt_tokens");
      answer_.completion_tokens = count_at(*usage, "completion_tokens");
    }
    const auto choices = body.find("choices");
    if (choices == body.end() || !choices->is_array() || choices->empty()) return false;
    const auto& choice = (*choices)[0];
    if (!choice.is_object()) return false;
    if (const auto found = choice.find("logprobs"); found != choice.end()) {
      read_log_probs(*found, answer_.tokens);
    }
    std::string piece;
    if (const auto chat = choice.find(message); chat != choice.end()) {
      piece = string_at(*chat, "content");
    } else {
      piece = string_at(choice, "text");
    }
    answer_.finish_reason = string_at(choice, "finish_reason", answer_.finish_reason);
    if (piece.empty()) return true;
    answering_ = true;
    answer_.text += piece;
    if (!on_piece_(piece)) {
      cancelled_ = true;
      answer_.finish_reason = "cancelled";
    }
    return true;
  }

  const std::string& url_;
  const std::string& secret_;
  piece_sink on_piece_;
  completion& answer_;
  sse_parser events_;
  std::string body_;
  std::optional<error> failure_;
  bool answering_ = false, done_ = false, cancelled_ = false;
};

}  // namespace detail

}  // namespace crayon::serve
