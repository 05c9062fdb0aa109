// SPDX-License-Identifier: MIT
// What a server is told, and what of it the HTTP library is told.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include <httplib.h>
#include <sys/socket.h>

#include <crayon/serve/deadline_server.hpp>
#include <crayon/serve/openai_answer.hpp>
#include <crayon/serve/openai_request.hpp>

namespace crayon::serve {

struct server_options {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;  ///< 0: any free one; start() says which
  std::string model = "crayon";
  std::vector<std::string> adapters = {};  ///< model names that stand for it with one adapter
  bool blends = false;                     ///< requests may mix adapters, see `served_models`
  request_limits limits = {};
  std::size_t max_body_bytes = std::size_t{1} << 20;
  std::size_t queue = 64;    ///< requests that wait for a generator at most; then HTTP 429
  std::size_t threads = 0;   ///< connections served at once; 0: generators, queue and 8 more
  connection_limits connections = {};
  std::size_t blenders = 2;  ///< blends made at once for devices
  std::chrono::milliseconds queue_timeout{30'000};    ///< for a free generator; then HTTP 503
  std::chrono::milliseconds answer_timeout{120'000};  ///< an answer ends there, as by max_tokens
  std::chrono::milliseconds grace{5'000};  ///< how long stop() lets running answers go on
};

[[nodiscard]] inline std::size_t threads_of(const server_options& options, std::size_t generators) {
  return options.threads != 0 ? options.threads : generators + options.queue + 8;
}

/// An answer of OpenAI's shape that says what is wrong.
inline void refuse(httplib::Response& out, int status, std::string_view message,
                   std::string_view code) {
  out.status = status;
  out.set_content(
      error_body(message, status < 500 ? "invalid_request_error" : "server_error", code),
      "application/json");
}

/// Limits, sockets, and answers to what no route takes.
inline void prepare(httplib::Server& http, const server_options& options) {
  http.set_payload_max_length(options.max_body_bytes);
  // The library (0.11) holds to that only where the length is announced.
  http.set_pre_routing_handler([](const httplib::Request& in, httplib::Response& out) {
    if (!in.has_header("Transfer-Encoding")) return httplib::Server::HandlerResponse::Unhandled;
    refuse(out, 411, "a body in chunks: its length must be announced", "length_required");
    return httplib::Server::HandlerResponse::Handled;
  });
  http.set_tcp_nodelay(true);
  http.set_keep_alive_max_count(1000);
  // The library's default is SO_REUSEPORT, with which two servers share a port and do not know.
  http.set_socket_options([](auto socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  http.set_error_handler([](const httplib::Request& in, httplib::Response& out) {
    if (!out.body.empty()) return;
    refuse(out, out.status,
           out.status == 404   ? in.method + " " + in.path + " does not exist"
           : out.status == 413 ? std::string("the body is too large")
                               : "HTTP " + std::to_string(out.status),
           "http_error");
  });
  http.set_exception_handler(
      [](const httplib::Request&, httplib::Response& out, std::exception_ptr) {
        refuse(out, 500, "the server failed while answering", "internal_error");
      });
}

}  // namespace crayon::serve
