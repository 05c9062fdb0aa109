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
#include <crayon/serve/circuit_breaker.hpp>
#include <crayon/serve/completion.hpp>
#include <crayon/serve/curl_transport.hpp>
#include <crayon/serve/openai_response.hpp>
#include <crayon/serve/retrying.hpp>
#include <crayon/serve/time_source.hpp>
#include <crayon/serve/transport.hpp>

namespace crayon::serve {

enum class endpoint : std::uint8_t { chat, completions };

struct client_options {
  std::string base_url = "http://127.0.0.1:8080/v1";  ///< without a slash at the end
  std::string model = {};                             ///< empty: the server's own choice
  std::string api_key = {};                           ///< sent as a bearer token, to base_url only
  endpoint through = endpoint::chat;                  ///< what complete() calls
  bool stream = true;
  std::size_t logprobs = 0;  ///< best tokens to ask the log-probabilities of, at each place
  std::chrono::milliseconds deadline{30'000};  ///< of a whole call, all attempts of it
  wait_limits limits = {};                     ///< of each attempt, within the deadline
  std::size_t max_response_bytes = std::size_t{16} << 20;
};

/// Every call ends before its deadline, in an answer or in one error that names the URL, what came
/// and what was expected. Pieces that were handed on before an error stay handed on. The key goes
/// to base_url, which no redirect leads away from, and is in no error, also where the server
/// repeats it. One call at a time per client.
template <transport Transport, time_source Time = machine_time>
class basic_openai_client {
 public:
  explicit basic_openai_client(client_options options, Transport transport = Transport{},
                               Time time = Time{})
      : options_(std::move(options)), transport_(std::move(transport)), time_(std::move(time)) {}

  /// POST {base_url}/chat/completions
  [[nodiscard]] result<completion> chat(std::span<const chat_message> messages,
                                        const generation_options& options, piece_sink on_piece) {
    completion answer;
    CRAYON_CHECK(chat_into(answer, messages, options, deadline_of(options), on_piece));
    return answer;
  }

  /// POST {base_url}/completions
  [[nodiscard]] result<completion> completions(std::string_view prompt,
                                               const generation_options& options,
                                               piece_sink on_piece) {
    completion answer;
    CRAYON_CHECK(completions_into(answer, prompt, options, deadline_of(options), on_piece));
    return answer;
  }

  /// What `remote` asks for: the prompt as the one user message of a chat, or as it is.
  [[nodiscard]] remote_answer complete(std::string_view prompt, const generation_options& options,
                                       piece_sink on_piece) {
    const auto deadline = deadline_of(options);
    completion answer;
    remote_answer whole;
    if (options_.through == endpoint::chat) {
      const chat_message message{"user", std::string(prompt)};
      whole.outcome = chat_into(answer, {&message, 1}, options, deadline, on_piece);
    } else {
      whole.outcome = completions_into(answer, prompt, options, deadline, on_piece);
    }
    whole.text = std::move(answer.text);
    whole.prompt_tokens = answer.prompt_tokens;
    whole.completion_tokens = answer.completion_tokens;
    whole.attempts = answer.counted.attempts;
    whole.bytes_sent = answer.counted.bytes_sent;
    whole.status = answer.status;
    whole.deadline_left_ms =
        std::chrono::duration<double, std::milli>(deadline - time_.now()).count();
    whole.endpoint = options_.base_url;
    return whole;
  }

  [[nodiscard]] const client_options& options() const noexcept { return options_; }

 private:
  [[nodiscard]] clock::time_point deadline_of(const generation_options& options) {
    return time_.now() + (options.deadline_ms == 0
                              ? options_.deadline
                              : std::chrono::milliseconds(options.deadline_ms));
  }

  result<void> chat_into(completion& answer, std::span<const chat_message> messages,
                         const generation_options& options, clock::time_point deadline,
                         piece_sink on_piece) {
    nlohmann::json body = parameters(options);
    body["messages"] = nlohmann::json::array();
    for (const auto& m : messages) {
      body["messages"].push_back({{"role", m.role}, {"content", m.content}});
    }
    if (options_.logprobs > 0) {
      body["logprobs"] = true;
      body["top_logprobs"] = options_.logprobs;
    }
    return call("/chat/completions", body, options, deadline, on_piece, answer);
  }

  result<void> completions_into(completion& answer, std::string_view prompt,
                                const generation_options& options, clock::time_point deadline,
                                piece_sink on_piece) {
    nlohmann::json body = parameters(options);
    body["prompt"] = prompt;
    if (options_.logprobs > 0) body["logprobs"] = options_.logprobs;
    return call("/completions", body, options, deadline, on_piece, answer);
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
                    const generation_options& options, clock::time_point deadline,
                    piece_sink on_piece, completion& answer) {
    http_request request;
    request.deadline = deadline;
    request.url = options_.base_url + std::string(path);
    const std::string_view url = request.url;
    const std::size_t host = url.find("://") + 3;
    if (!url.starts_with("http://") && !url.starts_with("https://")) {
      return error{errc::bad_value, request.url + ": not an http:// or https:// URL"};
    }
    if (url.substr(host, url.find('/', host) - host).find('@') != std::string_view::npos) {
      return error{errc::bad_value, "base_url holds a user name or password: use api_key"};
    }
    if (!std::all_of(options_.api_key.begin(), options_.api_key.end(),
                     [](char c) { return c > 0x20 && c < 0x7F; })) {
      return error{errc::bad_value, request.url +
                                        ": the API key holds a space, a line break or "
                                        "something else that no header has"};
    }
    request.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    request.headers = {{"Content-Type", "application/json"},
                       {"Accept", options_.stream ? "text/event-stream" : "application/json"}};
    if (!options_.api_key.empty()) {
      request.headers.push_back({"Authorization", "Bearer " + options_.api_key});
    }
    request.max_response_bytes = options_.max_response_bytes;
    request.limits = options_.limits;
    request.cancelled = options.cancelled;
    request.counted = &answer.counted;
    detail::response_reader reader(request.url, options_.api_key, on_piece, answer);
    request.answering = &reader.answering();
    const auto response =
        transport_.post(request, [&](const response_head& head, std::string_view bytes) {
          answer.status = head.status;
          return reader.take(head, bytes);
        });
    if (response) answer.status = response->head.status;
    // [DONE] was the end; what the connection did after it does not matter.
    if (!response && !reader.done()) return response.error();
    return reader.finish(response ? response->head : response_head{200, "text/event-stream"});
  }

  client_options options_;
  Transport transport_;
  [[no_unique_address]] Time time_;
};

/// Retries outside, so that the circuit counts every attempt and an open one ends the call.
using reliable_transport = retrying<circuit_breaker<curl_transport>>;
static_assert(transport<reliable_transport>);

using openai_client = basic_openai_client<reliable_transport>;
static_assert(remote<openai_client>);

}  // namespace crayon::serve
