// SPDX-License-Identifier: MIT
#include <crayon/serve/engine_generator.hpp>

#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <crayon/serve/curl_transport.hpp>
#include <crayon/serve/http_server.hpp>

#include "../catch.hpp"
#include "../engine/tiny.hpp"

using namespace crayon;

namespace {

using shelf_engine = engine::device_engine<test::tiny_config>;
using shelf_generator = serve::engine_generator<test::tiny_config>;
static_assert(serve::scoring_generator<shelf_generator>);

shelf_engine shelf_device() {
  return *shelf_engine::make(test::tiny_weights(7), tokenizer::byte_tokenizer());
}

serve::generation_request shelf_request(const std::string& prompt) {
  serve::generation_request request;
  request.prompt = prompt;
  request.options.max_tokens = 12;
  return request;
}

std::string shelf_answer(shelf_generator& one, const serve::generation_request& request) {
  std::string text;
  REQUIRE(one.check(request));
  REQUIRE(one(request, [&](std::string_view piece) {
    text += piece;
    return true;
  }));
  return text;
}

/// What an engine says that never had another adapter.
std::string fresh_answer(const std::string& prompt, const adapter::lora_adapter<float>* a) {
  shelf_engine device = shelf_device();
  if (a != nullptr) REQUIRE(device.use(*a));
  const auto answer = device.answer(prompt, shelf_request(prompt).options);
  REQUIRE(answer);
  return answer->text;
}

}  // namespace

TEST_CASE("each request has its own adapter, and nothing of another one's", "[serve]") {
  const auto config = test::tiny_weights(7).config();
  const std::vector<adapter::lora_adapter<float>> all{test::tiny_adapter(config, 1),
                                                      test::tiny_adapter(config, 2)};
  const auto own = std::make_shared<const adapter::lora_adapter<float>>(
      test::tiny_adapter(config, 3));
  const std::string prompt = "the same prompt";
  const auto set = *adapter::adapter_set<float>::build(all);
  const std::vector<weighted_slot> half{{0, 0.5F}, {1, 0.5F}};
  const auto mixed = *blend::concat::blend(set, half);
  for (const bool with_own : {true, false}) {
    const auto shelf = shelf_generator::shelf_type::make(all, {"a", "b"}, with_own ? own : nullptr);
    REQUIRE(shelf);
    shelf_generator one(shelf_device(), *shelf);
    std::vector<std::pair<serve::generation_request, std::string>> cases(
        4, {shelf_request(prompt), ""});
    cases[0].second = fresh_answer(prompt, with_own ? own.get() : nullptr);
    cases[1].first.adapter = "a";
    cases[1].second = fresh_answer(prompt, &all[0]);
    cases[2].first.adapter = "b";
    cases[2].second = fresh_answer(prompt, &all[1]);
    cases[3].first.blend = {{"a", 0.5F}, {"b", 0.5F}};
    cases[3].second = fresh_answer(prompt, &mixed);
    for (std::size_t i = 0; i < 4; ++i) {
      for (std::size_t j = i + 1; j < 4; ++j) CHECK(cases[i].second != cases[j].second);
    }
    rng random(5);
    for (int round = 0; round < 24; ++round) {
      const auto& [request, expected] = cases[random.below(4)];
      CHECK(shelf_answer(one, request) == expected);
    }
    auto unknown = shelf_request(prompt);
    unknown.adapter = "c";
    REQUIRE_FALSE(one.check(unknown));
    CHECK(one.check(unknown).error().code == errc::not_found);
    unknown.adapter.clear();
    unknown.blend = {{"a", 1.0F}, {"c", 1.0F}};
    CHECK_FALSE(one.check(unknown));
    CHECK(shelf_answer(one, cases[0].first) == cases[0].second);
  }
}

TEST_CASE("a mix is made once for all that ask for it, and the last ones are kept", "[serve]") {
  const auto config = test::tiny_weights(7).config();
  const auto shelf = *shelf_generator::shelf_type::make(
      {test::tiny_adapter(config, 1), test::tiny_adapter(config, 2)}, {"a", "b"}, nullptr, 2);
  const auto one = *shelf->blend({{"a", 1.0F}});
  const auto two = *shelf->blend({{"a", 1.0F}, {"b", 1.0F}});
  CHECK(*shelf->blend({{"a", 1.0F}}) == one);
  const auto three = *shelf->blend({{"b", 1.0F}});  // two has been asked for longest ago
  CHECK(*shelf->blend({{"a", 1.0F}}) == one);
  CHECK(*shelf->blend({{"a", 1.0F}, {"b", 1.0F}}) != two);
  CHECK_FALSE(shelf->blend({{"a", NAN}}));
  CHECK_FALSE(shelf->blend({{"a", 1.0F}, {"a", 1.0F}}));
}

TEST_CASE("log-probabilities are those of the forward pass", "[serve]") {
  shelf_generator one(shelf_device());
  auto request = shelf_request("abc");
  request.log_probs = true;
  request.top_log_probs = 3;
  REQUIRE(one.check(request));
  serve::token_log log;
  std::string text;
  const auto done = one(
      request,
      [&](std::string_view piece) {
        text += piece;
        return true;
      },
      log);
  REQUIRE(done);
  REQUIRE(log.size() == done->completion_tokens);
  REQUIRE_FALSE(log.empty());
  const auto weights = test::tiny_weights(7);
  model::llama_session<simd::scalar, float> session(weights);
  const tokenizer::byte_tokenizer tokens;
  auto logits = session.prefill(engine::encode_prompt(tokens, "abc"), model::no_delta{},
                                serial_executor{});
  for (const auto& token : log) {
    REQUIRE(token.top.size() == 3);
    CHECK(token.top[0].bytes == token.chosen.bytes);  // greedy
    CHECK(token.top[0].log_prob >= token.top[1].log_prob);
    CHECK(token.top[1].log_prob >= token.top[2].log_prob);
    std::size_t best = 0;
    double sum = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      best = logits[i] > logits[best] ? i : best;
      sum += std::exp(double{logits[i]});
    }
    CHECK(double{token.chosen.log_prob} ==
          Approx(double{logits[best]} - std::log(sum)).epsilon(1e-4));
    logits = session.forward(static_cast<std::int32_t>(best), model::no_delta{},
                             serial_executor{});
  }
}

TEST_CASE("many clients with adapters of their own at one server each get theirs", "[serve]") {
  const auto config = test::tiny_weights(7).config();
  const std::vector<adapter::lora_adapter<float>> all{test::tiny_adapter(config, 1),
                                                      test::tiny_adapter(config, 2)};
  const std::string prompt = "the same prompt";
  const auto set = *adapter::adapter_set<float>::build(all);
  const std::vector<weighted_slot> half{{0, 0.5F}, {1, 0.5F}};
  const auto mixed = *blend::concat::blend(set, half);
  const std::string expected[] = {fresh_answer(prompt, nullptr), fresh_answer(prompt, &all[0]),
                                  fresh_answer(prompt, &all[1]), fresh_answer(prompt, &mixed)};
  const char* const fields[] = {"", R"(,"model":"a")", R"(,"model":"b")",
                                R"(,"blend":{"a":0.5,"b":0.5})"};

  const auto shelf = *shelf_generator::shelf_type::make(all, {"a", "b"});
  const shelf_engine first = shelf_device();
  std::vector<shelf_generator> generators;
  for (int i = 0; i < 3; ++i) generators.emplace_back(first.fork(), shelf);
  serve::server_options options;
  options.adapters = shelf->names();
  options.blends = true;
  serve::http_server<shelf_generator> server(options, std::move(generators));
  const auto port = server.start();
  REQUIRE(port);
  // The HTTP library makes its tables at the first request. They are guarded, which the thread
  // sanitizer does not see in a library that was compiled without it.
  REQUIRE(httplib::Client("127.0.0.1", *port).Get("/health"));
  std::atomic<int> right{0};
  std::vector<std::thread> clients;
  for (std::size_t i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      serve::curl_transport transport;
      for (std::size_t round = 0; round < 6; ++round) {
        const std::size_t kind = (i + round) % 4;
        serve::http_request request;
        request.url = "http://127.0.0.1:" + std::to_string(*port) + "/v1/completions";
        request.body = R"({"max_tokens":12,"temperature":0,"prompt":")" + prompt + '"' +
                       fields[kind] + "}";
        request.deadline = serve::clock::now() + std::chrono::seconds(20);
        std::string body;
        const auto got = transport.post(request, [&](const auto&, std::string_view bytes) {
          body += bytes;
          return true;
        });
        if (!got) continue;
        const auto json = nlohmann::json::parse(body, nullptr, false);
        // As JSON has it: bytes that are not UTF-8 are replaced.
        const auto text = nlohmann::json::parse(serve::dump_json(expected[kind]));
        right += json.is_object() && json.contains("choices") && json["choices"][0]["text"] == text;
      }
    });
  }
  for (auto& one : clients) one.join();
  CHECK(right == 48);
}
