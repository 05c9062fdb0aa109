// SPDX-License-Identifier: MIT
#include <crayon/serve/server_options.hpp>

#include <stdexcept>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

#include "../catch.hpp"

TEST_CASE("all that may be answered or wait has a thread, and some are left for the rest",
          "[serve]") {
  crayon::serve::server_options options;
  options.queue = 10;
  CHECK(crayon::serve::threads_of(options, 4) > 14);
  options.threads = 3;
  CHECK(crayon::serve::threads_of(options, 4) == 3);
}

TEST_CASE("what no route answers has the shape of OpenAI's errors", "[serve]") {
  crayon::serve::server_options options;
  options.max_body_bytes = 10;
  httplib::Server http;
  crayon::serve::prepare(http, options);
  http.Get("/throws", [](const httplib::Request&, httplib::Response&) {
    throw std::runtime_error("a secret");
  });
  http.Post("/takes", [](const httplib::Request&, httplib::Response& out) {
    crayon::serve::refuse(out, 503, "not now", "busy");
  });
  const int port = http.bind_to_any_port("127.0.0.1");
  REQUIRE(port > 0);
  std::thread listener([&] { http.listen_after_bind(); });
  while (!http.is_running()) std::this_thread::yield();
  httplib::Client client("127.0.0.1", port);
  const auto is = [](const httplib::Result& got, int status, const std::string& message,
                     const std::string& type, const std::string& code) {
    REQUIRE(got);
    CHECK(got->status == status);
    CHECK(got->get_header_value("Content-Type") == "application/json");
    CHECK(
        nlohmann::json::parse(got->body) ==
        nlohmann::json{
            {"error", {{"message", message}, {"type", type}, {"param", nullptr}, {"code", code}}}});
  };
  const char* const wrong = "invalid_request_error";
  is(client.Get("/nowhere"), 404, "GET /nowhere does not exist", wrong, "http_error");
  is(client.Get("/throws"), 500, "the server failed while answering", "server_error",
     "internal_error");
  is(client.Post("/takes", "short", "a/b"), 503, "not now", "server_error", "busy");
  is(client.Post("/takes", "longer than ten", "a/b"), 413, "the body is too large", wrong,
     "http_error");
  http.stop();
  listener.join();
}
