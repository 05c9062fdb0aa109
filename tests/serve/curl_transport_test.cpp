// SPDX-License-Identifier: MIT
#include <crayon/serve/curl_transport.hpp>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "../catch.hpp"
#include "scripted_server.hpp"

namespace {

namespace exchange {

using namespace std::chrono_literals;
using crayon::serve::curl_transport;
using crayon::serve::http_request;
using crayon::serve::response_head;
using crayon::test::scripted_server;

http_request to(const scripted_server& server, std::chrono::milliseconds within = 5s) {
  http_request request;
  request.url = server.url() + "/v1/x?y=1";
  request.headers = {{"X-One", "1"}, {"Content-Type", "application/json"}};
  request.body = "{\"nul\": \"\\u0000\"}";
  request.deadline = crayon::serve::clock::now() + within;
  return request;
}

const std::string ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n";

}  // namespace exchange

}  // namespace

TEST_CASE("a POST goes out as it was given and its response comes back", "[serve]") {
  using namespace exchange;
  for (const int status : {200, 404, 503}) {
    scripted_server server({{{0, "HTTP/1.1 " + std::to_string(status) +
                                     " Whatever\r\nContent-Type: text/plain; charset=utf-8\r\n"
                                     "Content-Length: 5\r\n\r\nhel"},
                             {20, "lo"}}});
    std::string body;
    response_head seen;
    curl_transport transport;
    const auto response =
        transport.post(to(server), [&](const response_head& head, std::string_view bytes) {
          seen = head;
          body += bytes;
          return true;
        });
    REQUIRE(response);  // an HTTP status is no error
    CHECK(response->head.status == status);
    CHECK(response->head.content_type == "text/plain; charset=utf-8");
    CHECK(response->bytes == 5);
    CHECK(body == "hello");
    CHECK(seen.status == status);
    const std::string sent = server.last_request();
    CHECK(sent.starts_with("POST /v1/x?y=1 HTTP/1.1\r\n"));
    CHECK(sent.find("\r\nX-One: 1\r\n") != std::string::npos);
    CHECK(sent.find("Expect:") == std::string::npos);
    CHECK(sent.ends_with("\r\n\r\n{\"nul\": \"\\u0000\"}"));
  }
}

TEST_CASE("a sink that has enough ends the exchange without an error", "[serve]") {
  using namespace exchange;
  scripted_server server({{{0, ok + "\r\nfirst"}}, true});  // then silence
  curl_transport transport;
  int calls = 0;
  const auto start = crayon::serve::clock::now();
  const auto response = transport.post(to(server), [&](const response_head&, std::string_view) {
    ++calls;
    return false;
  });
  CHECK(response);
  CHECK(calls == 1);
  CHECK(crayon::serve::clock::now() - start < 1s);
}

TEST_CASE("what a sink throws comes out of the call", "[serve]") {
  using namespace exchange;
  scripted_server server({{{0, ok + "Content-Length: 5\r\n\r\nhello"}}});
  curl_transport transport;
  const auto thrower = [](const response_head&, std::string_view) -> bool {
    throw std::runtime_error("full");
  };
  CHECK_THROWS_AS(transport.post(to(server), thrower), std::runtime_error);
  // The transport is good for the next exchange.
  CHECK(transport.post(to(server), [](const response_head&, std::string_view) { return true; }));
}

TEST_CASE("too long, too late, cancelled, nobody there: one line with the URL", "[serve]") {
  using namespace exchange;
  const auto take = [](const response_head&, std::string_view) { return true; };
  curl_transport transport;
  {
    scripted_server server({{{0, ok + "Content-Length: 50\r\n\r\n" + std::string(50, 'x')}}});
    auto request = to(server);
    request.max_response_bytes = 49;
    const auto response = transport.post(request, take);
    REQUIRE_FALSE(response);
    CHECK(response.error().text == request.url + ": the answer is longer than 49 bytes");
    request.max_response_bytes = 50;
    request.deadline = crayon::serve::clock::now() + 5s;
    CHECK(transport.post(request, take));
  }
  {
    scripted_server server({{{0, ok + "Content-Length: 50\r\n\r\nxxx"}}, true});
    const auto request = to(server, 150ms);
    const auto response = transport.post(request, take);
    REQUIRE_FALSE(response);
    CHECK(response.error().code == crayon::errc::timed_out);
    CHECK(response.error().text ==
          request.url + ": no complete answer before the deadline (HTTP 200, 3 bytes received)");
  }
  {
    scripted_server server({{}, true});
    std::atomic<bool> cancelled{false};
    auto request = to(server, 20s);
    request.cancelled = &cancelled;
    std::thread other([&] {
      std::this_thread::sleep_for(100ms);
      cancelled = true;
    });
    const auto start = crayon::serve::clock::now();
    const auto response = transport.post(request, take);
    other.join();
    REQUIRE_FALSE(response);
    CHECK(response.error().text == request.url + ": cancelled by the caller (0 bytes received)");
    CHECK(crayon::serve::clock::now() - start < 5s);
  }
  http_request nobody;
  {
    scripted_server gone({});
    nobody = to(gone);
  }
  const auto refused = transport.post(nobody, take);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text.starts_with(nobody.url + ": "));
  CHECK(refused.error().text.find('\n') == std::string::npos);
}

TEST_CASE("a redirect is not followed, another scheme is refused", "[serve]") {
  using namespace exchange;
  scripted_server other({{{0, ok + "Content-Length: 0\r\n\r\n"}}});
  scripted_server server({{{0, "HTTP/1.1 307 Elsewhere\r\nLocation: " + other.url() +
                                   "/\r\nContent-Length: 0\r\n\r\n"}}});
  const auto take = [](const response_head&, std::string_view) { return true; };
  curl_transport transport;
  const auto response = transport.post(to(server), take);
  REQUIRE(response);
  CHECK(response->head.status == 307);
  CHECK(other.connections() == 0);
  auto request = to(server);
  request.url = "file:///etc/hostname";
  CHECK_FALSE(transport.post(request, take));
}
