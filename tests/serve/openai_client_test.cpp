// SPDX-License-Identifier: MIT
#include <crayon/serve/openai_client.hpp>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "../catch.hpp"
#include "scripted_server.hpp"

namespace {

using namespace std::chrono_literals;
using crayon::errc;
using crayon::generation_options;
using crayon::serve::client_options;
using crayon::serve::endpoint;
/// One attempt per call: what the policies around it do is tested with them.
using plain_client = crayon::serve::basic_openai_client<crayon::serve::curl_transport>;
using crayon::test::script;
using crayon::test::scripted_server;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr auto slack = 500ms;
#else
constexpr auto slack = 50ms;
#endif

std::string chunk(std::string_view text) {
  return R"(data: {"choices":[{"index":0,"delta":{"content":")" + std::string(text) + "\"}}]}\n\n";
}

std::string head(std::string_view status, std::string_view type, std::string_view more = "") {
  return "HTTP/1.1 " + std::string(status) + "\r\nContent-Type: " + std::string(type) + "\r\n" +
         std::string(more) + "\r\n";
}

const std::string stream_head = head("200 OK", "text/event-stream");
const std::string json_head = head("200 OK", "application/json");

client_options to(const scripted_server& server, std::chrono::milliseconds deadline = 5s) {
  client_options options;
  options.base_url = server.url() + "/v1";
  options.model = "tiny";
  options.deadline = deadline;
  return options;
}

struct seen {
  crayon::remote_answer answer;
  std::vector<std::string> pieces;
  std::chrono::milliseconds took{};
};

seen ask(plain_client& client, const generation_options& options = {}) {
  seen all;
  const auto start = crayon::serve::clock::now();
  all.answer = client.complete("What is 2 + 2?", options, [&](std::string_view piece) {
    all.pieces.emplace_back(piece);
    return true;
  });
  all.took = std::chrono::ceil<std::chrono::milliseconds>(crayon::serve::clock::now() - start);
  return all;
}

/// What every failure has in common: one line with the URL.
void check_error(const seen& all, errc code, const std::vector<std::string>& parts) {
  REQUIRE_FALSE(all.answer.outcome);
  const auto& failure = all.answer.outcome.error();
  CAPTURE(failure.text);
  CHECK(failure.code == code);
  CHECK(failure.text.find("http://") == 0);
  CHECK(failure.text.find_first_of("\r\n") == std::string::npos);
  for (const auto& part : parts) CHECK(failure.text.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("a chat is streamed piece by piece", "[serve]") {
  scripted_server server(
      {{{0, stream_head + ": hello\n\n" +
                "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n" + chunk("fo") +
                chunk("ur").substr(0, 20)},
        {10, chunk("ur").substr(20) +
                 "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
                 "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,"
                 "\"completion_tokens\":2}}\n\n"
                 "data: [DONE]\n\n"}}});
  plain_client client(to(server));
  generation_options options;
  options.max_tokens = 9;
  options.stop = {"\n"};
  options.seed = 5;
  const seen all = ask(client, options);
  REQUIRE(all.answer.outcome);
  CHECK(all.answer.text == "four");
  CHECK(all.pieces == std::vector<std::string>{"fo", "ur"});
  CHECK(all.answer.prompt_tokens == 7);
  CHECK(all.answer.completion_tokens == 2);

  const std::string request = server.last_request();
  CHECK(request.find("POST /v1/chat/completions HTTP/1.1\r\n") == 0);
  CHECK(request.find("Authorization") == std::string::npos);
  const auto body = nlohmann::json::parse(request.substr(request.find("\r\n\r\n")));
  CHECK(body["model"] == "tiny");
  CHECK(body["stream"] == true);
  CHECK(body["max_tokens"] == 9);
  CHECK(body["stop"] == nlohmann::json{"\n"});
  CHECK(body["messages"] ==
        nlohmann::json::parse(R"([{"role":"user","content":"What is 2 + 2?"}])"));
}

TEST_CASE("one JSON document, also where a stream was asked for", "[serve]") {
  const std::string document =
      R"({"choices":[{"message":{"role":"assistant","content":"vier \u00fc"},)"
      R"("finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}})";
  scripted_server server({{{0, json_head + document}}});
  for (const bool stream : {false, true}) {
    auto options = to(server);
    options.stream = stream;
    options.api_key = "secret";
    plain_client client(options);
    const seen all = ask(client);
    REQUIRE(all.answer.outcome);
    CHECK(all.answer.text == "vier \xC3\xBC");
    CHECK(all.answer.completion_tokens == 1);
    CHECK(server.last_request().find("\r\nAuthorization: Bearer secret\r\n") != std::string::npos);
  }
}

TEST_CASE("completions sends the prompt as it is", "[serve]") {
  scripted_server server({{{0, stream_head + "data: {\"choices\":[{\"text\":\"4\"}]}\n\n"
                                             "data: [DONE]\n\n"}}});
  auto options = to(server);
  options.through = endpoint::completions;
  plain_client client(options);
  const seen all = ask(client);
  REQUIRE(all.answer.outcome);
  CHECK(all.answer.text == "4");
  CHECK(server.last_request().find("POST /v1/completions HTTP/1.1\r\n") == 0);
  CHECK(server.last_request().find(R"("prompt":"What is 2 + 2?")") != std::string::npos);
}

TEST_CASE("a connection is used again", "[serve]") {
  const std::string body = chunk("4") + "data: [DONE]\n\n";
  const std::string answer = head("200 OK", "text/event-stream",
                                  "Content-Length: " + std::to_string(body.size()) + "\r\n") +
                             body;
  scripted_server server({{{0, answer}}, true});
  plain_client client(to(server));
  for (int i = 0; i < 3; ++i) REQUIRE(ask(client).answer.outcome);
  CHECK(server.connections() == 1);
}

TEST_CASE("[DONE] is the end, whatever the connection does then", "[serve]") {
  scripted_server server({{{0, stream_head + chunk("4") + "data: [DONE]\n\n"}}, true});
  plain_client client(to(server, 3s));
  const seen all = ask(client);
  REQUIRE(all.answer.outcome);
  CHECK(all.took < 1s);
}

TEST_CASE("a caller who has enough stops the answer, and that is no error", "[serve]") {
  script endless{{{0, stream_head}}, true};
  for (int i = 0; i < 200; ++i) endless.steps.push_back({10, chunk("x")});
  scripted_server server(endless);
  plain_client client(to(server));
  int pieces = 0;
  const auto answer = client.completions("p", {}, [&](std::string_view) { return ++pieces < 3; });
  REQUIRE(answer);
  CHECK(answer->finish_reason == "cancelled");
  CHECK(answer->text == "xxx");
  CHECK(pieces == 3);
}

TEST_CASE("answers that are wrong end in one error that says what came", "[serve]") {
  struct wrong {
    std::string name, answer;
    std::vector<std::string> parts;
    std::string text;
  };
  const std::string html = "<!doctype html>\n<title>Welcome to nginx!</title>";
  const std::vector<wrong> table{
      {"HTML",
       head("200 OK", "text/html") + html,
       {"text/html", "<!doctype html> <title>", "JSON was expected"},
       ""},
      {"malformed JSON", json_head + "{\"choices\": [", {"malformed JSON", "{\"choices\": ["}, ""},
      {"other JSON", json_head + "{\"answer\": 4}", {"without choices"}, ""},
      {"500 with a message",
       head("500 Internal Server Error", "application/json") +
           R"({"error":{"message":"out of memory","type":"server_error"}})",
       {"HTTP 500", "out of memory"},
       ""},
      {"502 with a page",
       head("502 Bad Gateway", "text/html") + "<html>bad\r\ngateway",
       {"HTTP 502", "text/html", "<html>bad  gateway"},
       ""},
      {"429",
       head("429 Too Many Requests", "application/json", "Retry-After: 7\r\n") +
           R"({"error":"slow down"})",
       {"HTTP 429", "slow down"},
       ""},
      {"401",
       head("401 Unauthorized", "application/json") + R"({"error":{"message":"no key"}})",
       {"HTTP 401", "no key"},
       ""},
      {"redirect",
       head("307 Temporary Redirect", "text/plain", "Location: /elsewhere\r\n"),
       {"HTTP 307"},
       ""},
      {"stream without [DONE]", stream_head + chunk("fo"), {"after 1 events without [DONE]"}, "fo"},
      {"malformed event",
       stream_head + chunk("fo") + "data: {oops\n\n",
       {"event 2 is malformed JSON", "{oops"},
       "fo"},
      {"error inside a stream",
       stream_head + chunk("fo") + "data: {\"error\":{\"message\":\"context full\"}}\n\n",
       {"the server reports an error", "context full"},
       "fo"},
      {"event of another kind", stream_head + "data: {\"foo\": 1}\n\n", {"no choices"}, ""},
      {"empty", "", {"cut"}, ""},
      {"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n", {}, ""},
      {"cut before the announced length",
       head("200 OK", "application/json", "Content-Length: 1000\r\n") + "{\"choices\"",
       {"cut"},
       ""},
      {"cut inside a chunked stream",
       head("200 OK", "text/event-stream", "Transfer-Encoding: chunked\r\n") + "FF\r\n" +
           chunk("fo"),
       {"cut"},
       "fo"},
  };
  for (const auto& row : table) {
    DYNAMIC_SECTION(row.name) {
      scripted_server server({{{0, row.answer}}});
      plain_client client(to(server));
      const seen all = ask(client);
      auto parts = row.parts;
      parts.push_back(server.url() + "/v1/chat/completions: ");
      check_error(all, errc::network_failed, parts);
      CHECK(all.answer.text == row.text);
      CHECK(all.took < 1s);
      CHECK(server.connections() == 1);
      // The same client is good for the next call, and fails in the same way.
      check_error(ask(client), errc::network_failed, row.parts.empty() ? row.parts : parts);
    }
  }
}

TEST_CASE("a reset connection is an error", "[serve]") {
  scripted_server server({{{0, stream_head + chunk("fo")}, {30, ""}}, false, true});
  plain_client client(to(server));
  check_error(ask(client), errc::network_failed, {server.url()});
}

TEST_CASE("nobody listens", "[serve]") {
  client_options options;
  {
    scripted_server gone({});
    options = to(gone);
  }
  plain_client client(options);
  const seen all = ask(client);
  check_error(all, errc::network_failed, {options.base_url + "/chat/completions: ", "onnect"});
  CHECK(all.took < 1s);
}

TEST_CASE("a host that does not exist", "[serve]") {
  client_options options;
  options.base_url = "http://crayon-test.invalid/v1";
  options.deadline = 2s;
  plain_client client(options);
  const seen all = ask(client);
  REQUIRE_FALSE(all.answer.outcome);
  CHECK(all.answer.outcome.error().text.find("http://crayon-test.invalid/v1/chat/completions: ") ==
        0);
  CHECK(all.took <= options.deadline + slack);
}

TEST_CASE("the deadline holds against every kind of slowness", "[serve]") {
  constexpr auto deadline = 300ms;
  script drip{{{0, stream_head}}, true};
  for (int i = 0; i < 300; ++i) drip.steps.push_back({15, chunk("x")});
  script slow_head{{}, true};
  for (const char c : head("200 OK", "text/event-stream", std::string(300, 'x') + ": y\r\n")) {
    slow_head.steps.push_back({10, std::string(1, c)});
  }
  struct slow {
    std::string name;
    script what;
    bool some;
  };
  const std::vector<slow> table{
      {"silence", {{}, true}, false},
      {"silence after the head", {{{0, stream_head}}, true}, false},
      {"silence after a piece", {{{0, stream_head + chunk("x")}}, true}, true},
      {"slow drip of pieces", drip, true},
      {"slow drip of the head", slow_head, false},
      {"an answer that is too late", {{{700, json_head + "{}"}}, false}, false}};
  for (const auto& row : table) {
    DYNAMIC_SECTION(row.name) {
      scripted_server server(row.what);
      plain_client client(to(server, deadline));
      // A machine that is busy elsewhere may be late once; a call that hangs is late always.
      seen all;
      for (int tries = 0; tries < 3 && (tries == 0 || all.took > deadline + slack); ++tries) {
        all = ask(client);
      }
      check_error(all, errc::timed_out, {server.url(), "deadline"});
      CHECK(all.took >= deadline - 5ms);
      CHECK(all.took <= deadline + slack);
      CHECK(all.answer.text.empty() != row.some);
    }
  }
  SECTION("the call's own deadline comes before the client's") {
    scripted_server server({{}, true});
    plain_client client(to(server, 10s));
    generation_options options;
    options.deadline_ms = 100;
    check_error(ask(client, options), errc::timed_out, {"deadline"});
  }
}

TEST_CASE("an answer without end is stopped at the limit", "[serve]") {
  script large{{{0, stream_head}}, true};
  for (int i = 0; i < 200; ++i) large.steps.push_back({0, std::string(4096, 'x')});
  scripted_server server(large);
  auto options = to(server);
  options.max_response_bytes = 100'000;
  plain_client client(options);
  check_error(ask(client), errc::network_failed, {"longer than 100000 bytes"});
}

TEST_CASE("what must not be sent is not sent", "[serve]") {
  scripted_server server({{{0, json_head + "{}"}}});
  auto options = to(server);
  SECTION("a key that would add a header") {
    options.api_key = "x\r\nHost: elsewhere";
    plain_client client(options);
    CHECK(ask(client).answer.outcome.error().code == errc::bad_value);
  }
  SECTION("a URL with credentials, which the error does not repeat") {
    options.base_url.insert(7, "user:pass@");
    plain_client client(options);
    const auto failure = ask(client).answer.outcome.error();
    CHECK(failure.code == errc::bad_value);
    CHECK(failure.text.find("pass@") == std::string::npos);
  }
  SECTION("another scheme") {
    options.base_url = "file:///etc";
    plain_client client(options);
    CHECK(ask(client).answer.outcome.error().code == errc::bad_value);
  }
  CHECK(server.connections() == 0);
}

TEST_CASE("a call is cancelled from another thread", "[serve]") {
  scripted_server server({{}, true});
  crayon::serve::curl_transport transport;
  std::atomic<bool> cancelled{false};
  crayon::serve::http_request request;
  request.url = server.url();
  request.deadline = crayon::serve::clock::now() + 10s;
  request.cancelled = &cancelled;
  crayon::serve::clock::time_point when;
  std::thread other([&] {
    std::this_thread::sleep_for(100ms);
    when = crayon::serve::clock::now();
    cancelled = true;
  });
  const auto response = transport.post(request, [](const auto&, std::string_view) { return true; });
  const auto now = crayon::serve::clock::now();
  other.join();
  REQUIRE_FALSE(response);
  CHECK(response.error().text.find("cancelled") != std::string::npos);
  CHECK(now - when < 500ms);
}

TEST_CASE("an exception of the sink comes out of the call", "[serve]") {
  scripted_server server({{{0, stream_head + chunk("x")}}, true});
  plain_client client(to(server));
  CHECK_THROWS_AS(client.complete("p", {}, [](std::string_view) -> bool { throw 7; }), int);
}
