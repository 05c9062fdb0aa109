// SPDX-License-Identifier: MIT
// How one HTTP request travels: the concept, and what goes in and out.
#pragma once

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/core/function_ref.hpp>
#include <crayon/core/result.hpp>

namespace crayon::serve {

using clock = std::chrono::steady_clock;

struct http_header {
  std::string name;
  std::string value;
};

/// How long one attempt waits for a server that gives no sign, each within the deadline. 0: as long
/// as the deadline.
struct wait_limits {
  std::chrono::milliseconds connect{3'000};       ///< resolving, TCP and TLS together
  std::chrono::milliseconds first_token{15'000};  ///< from the start of the attempt
  std::chrono::milliseconds idle{10'000};         ///< between two bytes after that
};

/// What went over the network, added up over the attempts of one call.
struct traffic {
  std::size_t attempts = 0;        ///< requests that were begun
  std::size_t connections = 0;     ///< opened; an attempt may use one that is open already
  std::size_t bytes_sent = 0;      ///< of HTTP: head and body of the requests, without TLS
  std::size_t bytes_received = 0;  ///< of the responses' bodies
};

struct http_request {
  std::string url;
  std::vector<http_header> headers;
  std::string body;
  clock::time_point deadline;  ///< for everything, from resolving the name to the last byte
  std::size_t max_response_bytes = std::size_t{16} << 20;
  const std::atomic<bool>* cancelled = nullptr;  ///< set by another thread: give up within 50 ms
  wait_limits limits = {};
  /// Set by the sink when the answer's first token is there; until then bytes that come in, such as
  /// comments of a stream, do not end the wait for it. Null: the first byte is the first token.
  const bool* answering = nullptr;
  traffic* counted = nullptr;  ///< added to, also by an exchange that fails
};

[[nodiscard]] inline bool is_cancelled(const http_request& request) noexcept {
  return request.cancelled != nullptr && request.cancelled->load();
}

/// What is known of a response before its body.
struct response_head {
  int status = 0;
  std::string content_type = {};
  std::string retry_after = {};  ///< the headers of these names, as they came
  std::string date = {};
};

/// Takes the body as it comes; false: nothing more is wanted, which is no error.
using body_sink = function_ref<bool(const response_head&, std::string_view)>;

struct http_response {
  response_head head;
  std::size_t bytes = 0;  ///< of the body, received
};

/// Sends one POST and hands the response's body on. An HTTP status is no error, whatever it says;
/// an error is one line that starts with the URL. It follows no redirect: a prompt goes where the
/// caller said, or nowhere. What it sends is added to `request.counted`.
template <class T>
concept transport = requires(T& t, const http_request& request, body_sink sink) {
  { t.post(request, sink) } -> std::same_as<result<http_response>>;
};

}  // namespace crayon::serve
