// SPDX-License-Identifier: MIT
// Client of an OpenAI-compatible endpoint: chat/completions and completions, streaming and not.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <crayon/concepts.hpp>
#include <crayon/serve/chat_message.hpp>
#include <crayon/serve/curl_transport.hpp>
#include <crayon/serve/openai_response.hpp>
#include <crayon/serve/transport.hpp>

namespace crayon::serve {

enum class endpoint : std::uint8_t { chat, completions };

struct client_options {
  std::string base_url = "http://127.0.0.1:8080/v1";  ///< without a slash at the end
  std::string model = {};                             ///< empty: the server's own choice
  std::string api_key = {};                           ///< sent as a bearer token, to base_url only
  endpoint through = endpoint::chat;                  ///< what complete() calls
  bool stream = true;
  std::chrono::milliseconds deadline{30'000};  ///< of a whole call
  std::size_t max_response_bytes = std::size_t{16} << 20;
};

/// Every call ends before its deadline, in an answer or in one error that names the URL, what came
/// and what was expected. Pieces that were handed on before an error stay handed on. One call at a
/// time per client.
template <transport Transport>
class basic_openai_client {
 public:
  explicit basic_openai_client(client_options options, Transport transport = Transport{})
      : options_(std::move(options)), transport_(std::move(transport)) {}

  /// POST {base_url}/chat/completions
  [[nodiscard]] result<completion> chat(std::span<const chat_message> messages,
                                        const generation_options& options, piece_sink on_piece) {
    completion answer;
    CRAYON_CHECK(chat_into(answer, messages, options, on_piece));
    return answer;
  }

  /// POST {base_url}/completions
  [[nodiscard]] result<completion> completions(std::string_view prompt,
                                               const generation_options& options,
                                               piece_sink on_piece) {
    completion answer;
    CRAYON_CHECK(completions_into(answer, prompt, options, on_piece));
    return answer;
  }

  /// What `remote` asks for: the prompt as the one user message of a chat, or as it is.
  [[nodiscard]] remote_answer complete(std::string_view prompt, const generation_options& options,
                                       piece_sink on_piece) {
    completion answer;
    remote_answer whole;
    whole.attempts = 1;
    if (options_.through == endpoint::chat) {
      const chat_message message{"user", std::string(prompt)};
      whole.outcome = chat_into(answer, {&message, 1}, options, on_piece);
    } else {
      whole.outcome = completions_into(answer, prompt, options, on_piece);
    }
    whole.text = std::move(answer.text);
    whole.prompt_tokens = answer.prompt_tokens;
    whole.completion_tokens = answer.completion_tokens;
    return whole;
  }

  [[nodiscard]] const client_options& options() const noexcept { return options_; }

 private:
  result<void> chat_into(completion& answer, std::span<const chat_message> messages,
                         const generation_options& options, piece_sink on_piece) {
    nlohmann::json body = parameters(options);
    body["messages"] = nlohmann::json::array();
    for (const auto& m : messages) {
      body["messages"].push_back({{"role", m.role}, {"content", m.content}});
    }
    return call("/chat/completions", body, options, on_piece, answer);
  }

  result<void> completions_into(completion& answer, std::string_view prompt,
                                const generation_options& options, piece_sink on_piece) {
    nlohmann::json body = parameters(options);
    body["prompt"] = prompt;
    return call("/completions", body, options, on_piece, answer);
  }

  /// top_k is not part of this interface and stays here.
  [[nodiscard]] nlohmann::json parameters(const generation_options& options) const {
    nlohmann::json body{{"max_tokens", options.max_tokens},
                        {"temperature", options.temperature},
                        {"top_p", options.top_p},
                        {"seed", options.seed},
                        {"stream", options_.stream}};
    if (!options_.model.empty()) body["model"] = options_.model;
    if (!options.stop.empty()) body["stop"] = options.stop;
    if (options_.stream) body["stream_options"] = {{"include_usage", true}};
    return body;
  }

  result<void> call(std::string_view path, const nlohmann::json& body,
                    const generation_options& options, piece_sink on_piece, completion& answer) {
    const auto start = clock::now();
    http_request request;
    request.url = options_.base_url + std::string(path);
    const std::string_view url = request.url;
    const std::size_t host = url.find("://") + 3;
    if (!url.starts_with("http://") && !url.starts_with("https://")) {
      return error{errc::bad_value, request.url + ": not an http:// or https:// URL"};
    }
    if (url.substr(host, url.find('/', host) - host).find('@') != std::string_view::npos) {
      return error{errc::bad_value, "base_url holds a user name or password: use api_key"};
    }
    if (options_.api_key.find_first_of("\r\n") != std::string::npos) {
      return error{errc::bad_value, request.url + ": the API key holds a line break"};
    }
    request.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    request.headers = {{"Content-Type", "application/json"},
                       {"Accept", options_.stream ? "text/event-stream" : "application/json"}};
    if (!options_.api_key.empty()) {
      request.headers.push_back({"Authorization", "Bearer " + options_.api_key});
    }
    request.deadline =
        start + (options.deadline_ms == 0 ? options_.deadline
                                          : std::chrono::milliseconds(options.deadline_ms));
    request.max_response_bytes = options_.max_response_bytes;

    detail::response_reader reader(request.url, on_piece, answer);
    const auto response =
        transport_.post(request, [&](const response_head& head, std::string_view bytes) {
          return reader.take(head, bytes);
        });
    // [DONE] was the end; what the connection did after it does not matter.
    if (!response && !reader.done()) return response.error();
    return reader.finish(response ? response->head : response_head{200, "text/event-stream"});
  }

  client_options options_;
  Transport transport_;
};

using openai_client = basic_openai_client<curl_transport>;
static_assert(remote<openai_client>);

}  // namespace crayon::serve
