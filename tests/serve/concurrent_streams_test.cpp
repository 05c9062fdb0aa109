// SPDX-License-Identifier: MIT
// 32 streams at once, each with an adapter or a mix of its own, server and clients in one process,
// so that the thread sanitizer sees both. CRAYON_LOAD_SECONDS: for so long instead of two rounds.
#include <crayon/serve/engine_generator.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/serve/curl_transport.hpp>
#include <crayon/serve/http_server.hpp>
#include <crayon/serve/sse.hpp>

#include "../catch.hpp"
#include "../engine/tiny.hpp"

namespace concurrent_streams_test {

using namespace crayon;
using engine_type = engine::device_engine<test::tiny_config>;
using generator = serve::engine_generator<test::tiny_config>;

/// One streamed answer; empty: it did not come whole.
std::string stream(serve::curl_transport& transport, const std::string& url,
                   const std::string& fields) {
  serve::http_request request;
  request.url = url;
  request.body = R"({"prompt":"the same","max_tokens":12,"temperature":0,"stream":true)" + fields;
  request.deadline = serve::clock::now() + std::chrono::seconds(100);
  std::string text;
  bool done = false;
  serve::sse_parser events;
  const auto got = transport.post(request, [&](const auto&, std::string_view bytes) {
    return events.feed(bytes, [&](const serve::sse_event& event) {
      done = event.data == "[DONE]";
      if (done) return true;
      const auto json = nlohmann::json::parse(event.data, nullptr, false);
      if (!json.is_object() || !json.contains("choices")) return false;
      text += "|" + json["choices"][0].value("text", "");
      return true;
    });
  });
  return got && done ? text : std::string();
}

TEST_CASE("32 streams, each with an adapter of its own: none is lost, none is another's",
          "[serve]") {
  const auto config = test::tiny_weights(7).config();
  const auto shelf = *generator::shelf_type::make(
      {test::tiny_adapter(config, 1), test::tiny_adapter(config, 2)}, {"a", "b"});
  const auto device = *engine_type::make(test::tiny_weights(7), tokenizer::byte_tokenizer());
  std::vector<generator> generators;
  for (int i = 0; i < 4; ++i) generators.emplace_back(device.fork(), shelf);
  serve::server_options options;
  options.adapters = shelf->names();
  options.blends = true;
  options.queue_timeout = std::chrono::seconds(90);
  serve::http_server<generator> server(options, std::move(generators));
  const auto port = server.start();
  REQUIRE(port);
  const std::string url = "http://127.0.0.1:" + std::to_string(*port) + "/v1/completions";

  std::vector<std::string> fields{"}", R"(,"model":"a"})", R"(,"model":"b"})"};
  for (int i = 1; i < 30; ++i) {  // more mixes than the shelf keeps
    fields.push_back(R"(,"blend":{"a":)" + std::to_string(i) + R"(,"b":0.5}})");
  }
  std::vector<std::string> alone;
  serve::curl_transport one;
  for (const auto& f : fields) alone.push_back(stream(one, url, f));
  REQUIRE(alone[0] != alone[1]);
  REQUIRE(alone[1] != alone[2]);

  const char* const seconds = std::getenv("CRAYON_LOAD_SECONDS");
  const auto until =
      serve::clock::now() + std::chrono::seconds(seconds != nullptr ? std::atol(seconds) : 0);
  std::mutex mutex;
  std::vector<double> took;
  std::atomic<int> lost{0}, mixed{0};
  std::vector<std::thread> clients;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    clients.emplace_back([&, i] {
      serve::curl_transport transport;
      for (int round = 0; round < 2 || serve::clock::now() < until; ++round) {
        const auto start = serve::clock::now();
        const std::string text = stream(transport, url, fields[i]);
        const std::chrono::duration<double, std::milli> all = serve::clock::now() - start;
        lost += text.empty();
        mixed += !text.empty() && text != alone[i];
        const std::lock_guard lock(mutex);
        took.push_back(all.count());
      }
    });
  }
  for (auto& client : clients) client.join();
  CHECK(lost == 0);
  CHECK(mixed == 0);
  CHECK(took.size() >= 64);
  std::sort(took.begin(), took.end());
  if (seconds != nullptr) {
    WARN(took.size() << " answers, p50 " << took[took.size() / 2] << " ms, p99 "
                     << took[took.size() * 99 / 100] << " ms, largest " << took.back() << " ms");
  }
}

}  // namespace concurrent_streams_test
