// SPDX-License-Identifier: MIT
#include <crayon/serve/http_server.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/serve/openai_client.hpp>

#include "../catch.hpp"

namespace {

using namespace std::chrono_literals;
using crayon::errc;
using crayon::error;
using crayon::generation_options;
using crayon::piece_sink;
using crayon::result;
using crayon::serve::clock;
using crayon::serve::generation;
using crayon::serve::generation_request;
using crayon::serve::http_server;
using crayon::serve::server_options;
using nlohmann::json;

/// Says the prompt again, byte by byte, and keeps count of how many do so at the same time.
struct echo {
  struct shared {
    std::atomic<int> now{0}, most{0}, answers{0};
    std::atomic<std::size_t> bytes{0};
    std::atomic<float> temperature{-1};
  };
  std::shared_ptr<shared> seen = std::make_shared<shared>();
  std::chrono::milliseconds per_byte{0};

  result<void> check(const generation_request& request) const {
    if (request.prompt.size() <= 100) return {};
    return error{errc::bad_shape, "the prompt has " + std::to_string(request.prompt.size()) +
                                      " tokens, the model's context 100"};
  }

  result<generation> operator()(const generation_request& request, piece_sink sink) {
    const int now = ++seen->now;
    if (now > seen->most) seen->most = now;
    seen->temperature = request.options.temperature;
    generation done;
    done.prompt_tokens = request.prompt.size();
    result<generation> out = done;
    for (std::size_t i = 0; i < request.prompt.size(); ++i) {
      if (done.completion_tokens == request.options.max_tokens) {
        done.length_limit = true;
        break;
      }
      std::this_thread::sleep_for(per_byte);
      ++seen->bytes;
      ++done.completion_tokens;
      if (!sink(std::string_view(request.prompt).substr(i, 1))) break;
    }
    --seen->now;
    ++seen->answers;
    if (request.prompt == "fail") return error{errc::bad_value, "the model failed"};
    return done;
  }
};

struct reply {
  int status;
  std::string type, body;
  [[nodiscard]] json parsed() const { return json::parse(body, nullptr, false); }
};

reply post(std::uint16_t port, const std::string& path, const std::string& body) {
  crayon::serve::curl_transport transport;
  crayon::serve::http_request request;
  request.url = "http://127.0.0.1:" + std::to_string(port) + path;
  request.headers = {{"Content-Type", "application/json"}};
  request.body = body;
  request.deadline = clock::now() + 10s;
  reply out{};
  const auto response = transport.post(request, [&](const auto&, std::string_view bytes) {
    out.body += bytes;
    return true;
  });
  if (!response) return out;  // status 0; no REQUIRE, as this also runs on other threads
  out.status = response->head.status;
  out.type = response->head.content_type;
  return out;
}

/// The program curl, as a second opinion on the protocol.
std::string curl(const std::string& arguments) {
  std::string text;
  FILE* pipe = popen(("curl -s -m 10 --noproxy '*' " + arguments).c_str(), "r");
  REQUIRE(pipe);
  char buffer[256];
  while (const auto count = std::fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, count);
  pclose(pipe);
  return text;
}

struct fixture {
  explicit fixture(server_options options = {}, echo model = {}, std::size_t models = 1)
      : seen(model.seen), server(options, std::vector<echo>(models, model)) {
    const auto bound = server.start();
    REQUIRE(bound);
    port = *bound;
  }
  [[nodiscard]] crayon::serve::openai_client client(
      crayon::serve::client_options options = {}) const {
    options.base_url = "http://127.0.0.1:" + std::to_string(port) + "/v1";
    return crayon::serve::openai_client(options);
  }
  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port); }

  std::shared_ptr<echo::shared> seen;
  http_server<echo> server;
  std::uint16_t port = 0;
};

}  // namespace

TEST_CASE("health and models", "[serve]") {
  server_options options;
  options.model = "tiny";
  fixture at(options);
  CHECK(json::parse(curl(at.url() + "/health")) == json{{"status", "ok"}});
  const auto models = json::parse(curl(at.url() + "/v1/models"));
  CHECK(models["object"] == "list");
  REQUIRE(models["data"].size() == 1);
  CHECK(models["data"][0]["id"] == "tiny");
  CHECK(models["data"][0]["object"] == "model");
}

TEST_CASE("a chat answered in one document", "[serve]") {
  fixture at;
  const auto out = post(at.port, "/v1/chat/completions",
                        R"({"messages":[{"role":"system","content":"be brief"},
                            {"role":"user","content":"no"},{"role":"assistant","content":"a"},
                            {"role":"user","content":[{"type":"text","text":"gr"},
                                                      {"type":"text","text":"ün"}]}],
                            "temperature":0.25,"an_unknown_field":[1,2]})");
  CHECK(out.status == 200);
  CHECK(out.type == "application/json");
  const auto body = out.parsed();
  CHECK(body["object"] == "chat.completion");
  CHECK(body["id"].get<std::string>().find("chatcmpl-") == 0);
  CHECK(body["model"] == "crayon");
  CHECK(body["choices"][0]["message"] == json{{"role", "assistant"}, {"content", "grün"}});
  CHECK(body["choices"][0]["finish_reason"] == "stop");
  CHECK(body["usage"] ==
        json{{"prompt_tokens", 5}, {"completion_tokens", 5}, {"total_tokens", 10}});
  CHECK(at.seen->temperature == 0.25F);
}

TEST_CASE("completions, with a limit", "[serve]") {
  fixture at;
  const auto body =
      post(at.port, "/v1/completions", R"({"prompt":["abcdef"],"max_tokens":3})").parsed();
  CHECK(body["object"] == "text_completion");
  CHECK(body["choices"][0]["text"] == "abc");
  CHECK(body["choices"][0]["finish_reason"] == "length");
  CHECK(body["usage"]["completion_tokens"] == 3);
  CHECK(at.seen->temperature == 1.0F);
}

TEST_CASE("the stream as curl sees it", "[serve]") {
  fixture at;
  const std::string text = curl(
      "-N -H 'Content-Type: application/json' -d "
      R"('{"stream":true,"stream_options":{"include_usage":true},)"
      R"("messages":[{"role":"user","content":"aü"}]}' )" +
      at.url() + "/v1/chat/completions");
  std::vector<json> events;
  crayon::serve::sse_parser parser;
  bool done = false;
  parser.feed(text, [&](const auto& event) {
    CHECK_FALSE(done);
    done = event.data == "[DONE]";
    if (!done) events.push_back(json::parse(event.data));
    return true;
  });
  CAPTURE(text);
  CHECK(done);
  REQUIRE(events.size() == 5);
  CHECK(events[0]["object"] == "chat.completion.chunk");
  CHECK(events[0]["choices"][0]["delta"]["role"] == "assistant");
  CHECK(events[1]["choices"][0]["delta"]["content"] == "a");
  CHECK(events[2]["choices"][0]["delta"]["content"] == "ü");  // two bytes, one piece
  CHECK(events[2]["choices"][0]["finish_reason"].is_null());
  CHECK(events[3]["choices"][0]["finish_reason"] == "stop");
  CHECK(events[4]["choices"].empty());
  CHECK(events[4]["usage"]["completion_tokens"] == 3);
  for (const auto& e : events) CHECK(e["id"] == events[0]["id"]);
}

TEST_CASE("the client and the server understand each other", "[serve]") {
  fixture at;
  for (const bool stream : {true, false}) {
    for (const auto through :
         {crayon::serve::endpoint::chat, crayon::serve::endpoint::completions}) {
      crayon::serve::client_options options;
      options.stream = stream;
      options.through = through;
      auto client = at.client(options);
      std::string pieces;
      const auto answer =
          client.complete("zwölf \"Boxkämpfer\"\n", {}, [&](std::string_view piece) {
            pieces += piece;
            return true;
          });
      REQUIRE(answer.outcome);
      CHECK(answer.text == "zwölf \"Boxkämpfer\"\n");
      CHECK(pieces == answer.text);
      CHECK(answer.completion_tokens == answer.text.size());
      CHECK(answer.prompt_tokens == answer.text.size());
    }
  }
}

TEST_CASE("requests that are wrong are refused in one sentence", "[serve]") {
  server_options options;
  options.max_body_bytes = 5000;
  fixture at(options);
  struct wrong {
    std::string body;
    int status;
    std::string part;
  };
  const std::vector<wrong> chats{
      {"", 400, "not valid JSON"},
      {"{\"messages\":", 400, "not valid JSON"},
      {"[1]", 400, "an object"},
      {"{\"messages\":[" + std::string(2000, '[') + std::string(2000, ']') + "]}", 400,
       "not valid JSON"},
      {"{}", 400, "'messages' is null"},
      {R"({"messages":[]})", 400, "'messages' is []"},
      {R"({"messages":["hi"]})", 400, "'messages' is \"hi\""},
      {R"({"messages":[{"role":"system","content":"x"}]})", 400, "no user message"},
      {R"({"messages":[{"role":"user","content":3}]})", 400, "'content' is 3"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", 400, "image_url"},
      {R"({"model":"gpt-4","messages":[{"role":"user","content":"x"}]})", 404, "\"gpt-4\""},
      {R"({"model":7,"messages":[{"role":"user","content":"x"}]})", 400, "'model' is 7"},
      {R"({"n":2,"messages":[{"role":"user","content":"x"}]})", 400, "'n' is 2"},
      {R"({"logprobs":true,"messages":[{"role":"user","content":"x"}]})", 400, "does not tell"},
      {R"({"stream":"yes","messages":[{"role":"user","content":"x"}]})", 400,
       "'stream' is \"yes\""},
      {R"({"temperature":-1,"messages":[{"role":"user","content":"x"}]})", 400,
       "'temperature' is -1"},
      {R"({"temperature":"hot","messages":[{"role":"user","content":"x"}]})", 400, "'temperature'"},
      {R"({"top_p":1.5,"messages":[{"role":"user","content":"x"}]})", 400, "'top_p' is 1.5"},
      {R"({"max_tokens":0,"messages":[{"role":"user","content":"x"}]})", 400, "'max_tokens' is 0"},
      {R"({"max_tokens":-5,"messages":[{"role":"user","content":"x"}]})", 400,
       "'max_tokens' is -5"},
      {R"({"max_tokens":1.5,"messages":[{"role":"user","content":"x"}]})", 400, "'max_tokens'"},
      {R"({"seed":"a","messages":[{"role":"user","content":"x"}]})", 400, "'seed'"},
      {R"({"stop":[""],"messages":[{"role":"user","content":"x"}]})", 400, "'stop'"},
      {R"({"stop":5,"messages":[{"role":"user","content":"x"}]})", 400, "'stop' is 5"},
      {R"({"messages":[{"role":"user","content":")" + std::string(101, 'x') + R"("}]})", 400,
       "the prompt has 101 tokens"},
      {R"({"stream":true,"messages":[{"role":"user","content":")" + std::string(101, 'x') +
           R"("}]})",
       400, "the prompt has 101 tokens"},
      {R"({"messages":[{"role":"user","content":"fail"}]})", 500, "the model failed"},
      {std::string(6000, ' '), 413, "too large"},
  };
  for (const auto& row : chats) {
    const auto out = post(at.port, "/v1/chat/completions", row.body);
    CAPTURE(row.body, out.body);
    CHECK(out.status == row.status);
    CHECK(out.type == "application/json");
    const auto body = out.parsed();
    REQUIRE(body.is_object());
    REQUIRE(body.contains("error"));
    CHECK(body["error"]["message"].get<std::string>().find(row.part) != std::string::npos);
    CHECK(body["error"]["type"] == (row.status < 500 ? "invalid_request_error" : "server_error"));
  }
  for (const char* prompt :
       {R"({})", R"({"prompt":3})", R"({"prompt":["a","b"]})", R"({"prompt":[1,2]})"}) {
    CHECK(post(at.port, "/v1/completions", prompt).status == 400);
  }
  CHECK(post(at.port, "/v1/elsewhere", "{}").status == 404);
  CHECK(post(at.port, "/v1/models", "{}").status == 404);
}

TEST_CASE("a body whose length is not announced is refused before it is read", "[serve]") {
  fixture at;
  httplib::Client client("127.0.0.1", at.port);
  const auto answer = client.Post(
      "/v1/completions",
      [](std::size_t, httplib::DataSink& sink) {
        sink.os << R"({"prompt":"x"})";
        sink.done();
        return true;
      },
      "application/json");
  REQUIRE(answer);
  CHECK(answer->status == 411);
  CHECK(answer->body.find("its length must be announced") != std::string::npos);
}

TEST_CASE("a model that fails in the middle of a stream is reported to the client", "[serve]") {
  fixture at;
  auto client = at.client();
  const auto answer = client.complete("fail", {}, [](std::string_view) { return true; });
  REQUIRE_FALSE(answer.outcome);
  CHECK(answer.outcome.error().text.find("the model failed") != std::string::npos);
  CHECK(answer.text == "fail");
}

TEST_CASE("a port in use is an error that names it", "[serve]") {
  fixture at;
  server_options options;
  options.port = at.port;
  http_server<echo> second(options, echo{});
  const auto bound = second.start();
  REQUIRE_FALSE(bound);
  CHECK(bound.error().text.find("127.0.0.1:" + std::to_string(at.port)) != std::string::npos);
}

TEST_CASE("the port is free again after stop", "[serve]") {
  server_options options;
  {
    fixture at;
    options.port = at.port;
    CHECK(post(at.port, "/v1/completions", R"({"prompt":"x"})").status == 200);
  }
  fixture again(options);
  CHECK(again.port == options.port);
}

TEST_CASE("many clients, few models: each gets its own answer", "[serve]") {
  echo model;
  model.per_byte = 1ms;
  fixture at({}, model, 2);
  std::vector<std::thread> clients;
  std::atomic<int> right{0};
  for (int i = 0; i < 12; ++i) {
    clients.emplace_back([&, i] {
      auto client = at.client();
      for (int round = 0; round < 3; ++round) {
        const std::string prompt =
            "client " + std::to_string(i) + " round " + std::to_string(round);
        const auto answer = client.complete(prompt, {}, [](std::string_view) { return true; });
        right += answer.outcome && answer.text == prompt;
      }
    });
  }
  for (auto& one : clients) one.join();
  CHECK(right == 36);
  CHECK(at.seen->most == 2);
}

TEST_CASE("a client that goes away frees the model", "[serve]") {
  echo model;
  model.per_byte = 5ms;
  fixture at({}, model);
  {
    auto client = at.client();
    const auto answer =
        client.complete(std::string(90, 'x'), {}, [](std::string_view) { return false; });
    CHECK(answer.outcome);
  }
  const auto start = clock::now();
  while (at.seen->answers == 0 && clock::now() - start < 5s) std::this_thread::sleep_for(5ms);
  CHECK(at.seen->answers == 1);
  CHECK(at.seen->bytes < 90);
}

TEST_CASE("all models busy for too long is HTTP 503", "[serve]") {
  echo model;
  model.per_byte = 10ms;
  server_options options;
  options.queue_timeout = 50ms;
  fixture at(options, model);
  std::thread first(
      [&] { post(at.port, "/v1/completions", R"({"prompt":")" + std::string(60, 'x') + R"("})"); });
  while (at.seen->now == 0) std::this_thread::sleep_for(1ms);
  const auto out = post(at.port, "/v1/completions", R"({"prompt":"y"})");
  first.join();
  CHECK(out.status == 503);
  CHECK(out.parsed()["error"]["code"] == "overloaded");
}

TEST_CASE("a request that waits for a model when the server stops is refused", "[serve]") {
  echo model;
  model.per_byte = 10ms;
  fixture at({}, model);
  const std::string busy = R"({"prompt":")" + std::string(60, 'x') + R"("})";
  reply first{}, second{};
  std::thread running([&] { first = post(at.port, "/v1/completions", busy); });
  while (at.seen->now == 0) std::this_thread::sleep_for(1ms);
  std::thread waiting([&] { second = post(at.port, "/v1/completions", R"({"prompt":"y"})"); });
  std::this_thread::sleep_for(100ms);
  at.server.stop();
  running.join();
  waiting.join();
  CHECK(first.status == 200);
  CHECK(second.status == 503);
}

TEST_CASE("stop lets an answer finish within its grace, and cuts it off after that", "[serve]") {
  for (const auto grace : {5000ms, 50ms}) {
    echo model;
    model.per_byte = 10ms;
    server_options options;
    options.grace = grace;
    fixture at(options, model);
    crayon::remote_answer answer;
    std::thread asking([&] {
      auto client = at.client();
      answer = client.complete(std::string(50, 'x'), {}, [](std::string_view) { return true; });
    });
    while (at.seen->now == 0) std::this_thread::sleep_for(1ms);
    const auto start = clock::now();
    at.server.stop();
    CHECK(clock::now() - start < 3s);
    asking.join();
    CAPTURE(grace.count());
    CHECK(static_cast<bool>(answer.outcome) == (grace > 1s));
    if (grace > 1s) CHECK(answer.text.size() == 50);
  }
}

TEST_CASE("a full queue is HTTP 429 with the time to wait, and nobody else suffers", "[serve]") {
  echo model;
  model.per_byte = 10ms;
  server_options options;
  options.queue = 1;
  fixture at(options, model);
  const std::string busy = R"({"prompt":")" + std::string(60, 'x') + R"("})";
  reply first{}, second{};
  std::thread running([&] { first = post(at.port, "/v1/completions", busy); });
  while (at.seen->now == 0) std::this_thread::sleep_for(1ms);
  std::thread waiting([&] { second = post(at.port, "/v1/completions", R"({"prompt":"y"})"); });
  while (curl(at.url() + "/metrics").find("crayon_queue_depth 1") == std::string::npos) {
    std::this_thread::sleep_for(5ms);
  }
  const std::string third = curl("-i -d '{\"prompt\":\"z\"}' " + at.url() + "/v1/completions");
  CHECK(third.find("429 ") != std::string::npos);
  CHECK(third.find("Retry-After: 1\r\n") != std::string::npos);
  CHECK(third.find("rate_limit_exceeded") != std::string::npos);
  running.join();
  waiting.join();
  CHECK(first.status == 200);
  CHECK(second.status == 200);
  CHECK(at.seen->most == 1);
  std::string metrics;
  for (int i = 0; i < 100; ++i) {  // a response is counted when it has gone out
    metrics = curl(at.url() + "/metrics");
    if (metrics.find("status=\"200\"} 2") != std::string::npos) break;
    std::this_thread::sleep_for(5ms);
  }
  CAPTURE(metrics);
  for (const char* line :
       {"crayon_http_requests_total{path=\"/v1/completions\",status=\"200\"} 2\n",
        "crayon_http_requests_total{path=\"/v1/completions\",status=\"429\"} 1\n",
        "crayon_tokens_total{direction=\"in\"} 61\n", "crayon_tokens_total{direction=\"out\"} 61\n",
        "crayon_answer_seconds_count 2\n", "crayon_queue_depth 0\n"}) {
    CHECK(metrics.find(line) != std::string::npos);
  }
}

TEST_CASE("a server that stops says so to who asks for its health", "[serve]") {
  echo model;
  model.per_byte = 10ms;
  fixture at({}, model);
  std::thread running(
      [&] { post(at.port, "/v1/completions", R"({"prompt":")" + std::string(80, 'x') + R"("})"); });
  while (at.seen->now == 0) std::this_thread::sleep_for(1ms);
  std::thread stopping([&] { at.server.stop(); });
  std::string health;
  for (int i = 0; i < 50 && health.find("503") == std::string::npos; ++i) {
    health = curl("-i " + at.url() + "/health");
  }
  CHECK(health.find("503") != std::string::npos);
  CHECK(health.find("stopping") != std::string::npos);
  running.join();
  stopping.join();
}

TEST_CASE("models of adapters are listed, and asked for by their names", "[serve]") {
  server_options options;
  options.adapters = {"dates", "numbers"};
  options.blends = true;
  fixture at(options);
  const auto models = json::parse(curl(at.url() + "/v1/models"));
  std::vector<std::string> ids;
  for (const auto& one : models["data"]) ids.push_back(one["id"]);
  CHECK(ids == std::vector<std::string>{"crayon", "dates", "numbers", "blend"});
  const auto out = post(at.port, "/v1/completions", R"({"model":"dates","prompt":"x"})");
  CHECK(out.status == 200);
  CHECK(out.parsed()["model"] == "dates");
  CHECK(post(at.port, "/v1/completions", R"({"model":"times","prompt":"x"})").status == 404);
}
