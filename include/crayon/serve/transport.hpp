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

struct http_request {
  std::string url;
  std::vector<http_header> headers;
  std::string body;
  clock::time_point deadline;  ///< for everything, from resolving the name to the last byte
  std::size_t max_response_bytes = std::size_t{16} << 20;
  const std::atomic<bool>* cancelled = nullptr;  ///< set from another thread: give up within 50 ms
};

/// What is known of a response before its body.
struct response_head {
  int status = 0;
  std::string content_type;
};

/// Takes the body as it comes; false: nothing more is wanted, which is no error.
using body_sink = function_ref<bool(const response_head&, std::string_view)>;

struct http_response {
  response_head head;
  std::size_t bytes = 0;  ///< of the body, received
};

/// Sends one POST and hands the response's body on. An HTTP status is no error, whatever it says;
/// an error is one line that starts with the URL. It follows no redirect: a prompt goes where the
/// caller said, or nowhere.
template <class T>
concept transport = requires(T& t, const http_request& request, body_sink sink) {
  { t.post(request, sink) } -> std::same_as<result<http_response>>;
};

}  // namespace crayon::serve
