// SPDX-License-Identifier: MIT
#include <crayon/serve/remote_pool.hpp>

#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <crayon/engine/device_engine.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/serve/blend_service.hpp>
#include <crayon/serve/curl_transport.hpp>
#include <crayon/serve/http_server.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include "../catch.hpp"
#include "../engine/tiny.hpp"
#include "scripted_server.hpp"

using namespace crayon;
using serve::curl_transport;

namespace {

/// A server needs a model; these tests do not ask it.
struct mute_model {
  result<serve::generation> operator()(const serve::generation_request&, piece_sink) {
    return serve::generation{};
  }
};

using pool_service = serve::blend_service<adapter::pool<float>, simd::highway_dynamic>;

adapter::pool<float> served_pool(const std::string& blend = "concat") {
  const auto weights = test::tiny_weights(7);
  adapter::pool_info info;
  info.base_model = "tiny";
  info.base_hash = weights.hash();
  info.embedding = "mean_pooling";
  info.matcher = "cosine_softmax";
  info.blend = blend;
  info.tau = 0.2F;
  info.names = {"dates", "numbers", "words"};
  info.centre.assign(32, 0.01F);
  return test::tiny_pool(weights, info);
}

struct blend_server {
  explicit blend_server(const std::string& blend = "concat") : server({}, mute_model{}) {
    auto made = pool_service::make(served_pool(blend));
    REQUIRE(made);
    service = std::make_shared<const pool_service>(*std::move(made));
    server.add_pool(service);
    const auto bound = server.start();
    REQUIRE(bound);
    url = "http://127.0.0.1:" + std::to_string(*bound) + "/v1";
  }

  std::shared_ptr<const pool_service> service;
  serve::http_server<mute_model> server;
  std::string url;
};

bool equal_factors(const adapter::lora_adapter<float>& a, const adapter::lora_adapter<float>& b) {
  bool equal = a.size() == b.size();
  for (std::size_t i = 0; equal && i < a.size(); ++i) {
    const auto at = b.find(a.module(i));
    if (!at || a.shape(i) != b.shape(*at)) return false;
    const auto f = a.factors(i), g = b.factors(*at);
    equal = std::memcmp(f.a.data, g.a.data, f.a.size() * sizeof(float)) == 0 &&
            std::memcmp(f.b.data, g.b.data, f.b.size() * sizeof(float)) == 0;
  }
  return equal;
}

struct posted {
  int status = 0;
  std::string body;
};

posted post_scores(const std::string& url, std::string_view type, const std::string& body) {
  curl_transport transport;
  serve::http_request request;
  request.url = url + "/blend";
  request.headers = {{"Content-Type", std::string(type)}};
  request.body = body;
  request.deadline = serve::clock::now() + std::chrono::seconds(10);
  posted out;
  const auto answer = transport.post(request, [&](const auto&, std::string_view bytes) {
    out.body += bytes;
    return true;
  });
  REQUIRE(answer);
  out.status = answer->head.status;
  return out;
}

std::string http_answer(const std::string& status, const std::string& body) {
  return "HTTP/1.1 " + status + "\r\nContent-Type: application/octet-stream\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace

TEST_CASE("the index of a pool, and the adapter of scores, equal the local ones bit for bit",
          "[serve]") {
  for (const char* policy : {"concat", "linear"}) {
    blend_server at(policy);
    const auto pool = served_pool(policy);
    serve::remote_pool<curl_transport> remote({at.url});
    const auto index = remote.index();
    REQUIRE(index);
    CHECK(index->hash == adapter::pool_hash(pool));
    CHECK(index->info == pool.info());
    REQUIRE(index->vectors.size() == pool.index().size());
    CHECK(std::memcmp(index->vectors.data(), pool.index().data,
                      index->vectors.size() * sizeof(float)) == 0);

    const auto weights = match::cosine_softmax{index->info.tau}.weights(
        index->view(), {pool.index().data, 2, pool.index().cols});
    const auto local = blend::recorded<simd::highway_dynamic>::blend(
        pool, blend::slots_of(weights, blend::negligible));
    REQUIRE(local);
    const auto request =
        match::blend_request::make(index->hash, weights, match::score_encoding::f32);
    REQUIRE(request);
    const auto made = remote.blend(*request, pool.info().base_hash);
    REQUIRE(made);
    CHECK(equal_factors(made->adapter, *local));
    CHECK(made->info.base_hash == pool.info().base_hash);
    CHECK(remote.record().sent_bytes == 8 + 4 * 3);

    // It goes into the model, and 8-bit scores give nearly the same.
    using engine_type = engine::device_engine<test::tiny_config>;
    auto device = *engine_type::make(test::tiny_weights(7), tokenizer::byte_tokenizer());
    CHECK(device.use(made->adapter));
    const auto coarse =
        *match::blend_request::make(index->hash, weights, match::score_encoding::u8);
    const auto near = remote.blend(coarse, pool.info().base_hash);
    REQUIRE(near);
    CHECK(remote.record().sent_bytes == 8 + 3);
    const auto by_scores = *blend::recorded<simd::highway_dynamic>::blend(
        pool, blend::slots_of(coarse.scores(), blend::negligible));
    CHECK(equal_factors(near->adapter, by_scores));
  }
}

TEST_CASE("customizing by a remote pool is customizing by one that is here", "[serve]") {
  struct remote_config : test::tiny_config {
    using embedding = match::mean_pooling;
    using backend = simd::highway_dynamic;
  };
  using engine_type = engine::device_engine<remote_config>;
  const std::vector<engine::sample> mine{{"three and four", "7"}, {"May", "5"}};
  const auto pool = served_pool();
  blend_server at;
  serve::remote_pool<curl_transport> remote({at.url});
  auto here = *engine_type::make(test::tiny_weights(7), tokenizer::byte_tokenizer());
  auto there = here.fork();
  const auto local = here.customize(pool, mine);
  const auto made = there.customize(remote, mine);
  REQUIRE(local);
  INFO((made ? "" : made.error().text));
  REQUIRE(made);
  CHECK(made->weights == local->weights);
  REQUIRE(there.blended() != nullptr);
  CHECK(equal_factors(*there.blended(), *here.blended()));
  CHECK(remote.record().sent_bytes == 8 + 4 * 3);
  const auto a = here.answer("five"), b = there.answer("five");
  CHECK(a->text == b->text);
  CHECK(a->seen.scope_distance == b->seen.scope_distance);  // the task is known there too
  CHECK(std::isfinite(b->seen.scope_distance));

  const auto noisy =
      there.customize(remote, mine, {match::score_encoding::u8, match::privacy{1, 1e-5}});
  REQUIRE(noisy);
  CHECK(remote.record().sent_bytes == 8 + 3);
  CHECK(noisy->weights != local->weights);
  // Another base model, another embedding: told before anything is sent, and nothing changes.
  serve::remote_pool<curl_transport> unsent({at.url});
  auto other = *engine_type::make(test::tiny_weights(8), tokenizer::byte_tokenizer());
  const auto refused = other.customize(unsent, mine);
  REQUIRE(!refused);
  CHECK(refused.error().text.find("the pool was made with the base model") == 0);
  CHECK(!other.customize(unsent, {}));
  CHECK(unsent.record().sent_bytes == 0);
  at.server.stop();
  CHECK(there.customize(remote, mine).error().code == errc::network_failed);
}

TEST_CASE("on the wire: N scores and the pool's hash, and headers that are always the same",
          "[serve]") {
  const auto pool = served_pool();
  const std::vector<float> weights{0.5F, 0.25F, 0.25F};
  const auto service = *pool_service::make(served_pool());
  for (const auto encoding : {match::score_encoding::f32, match::score_encoding::u8}) {
    const auto request = *match::blend_request::make(adapter::pool_hash(pool), weights, encoding);
    const std::string body = request.bytes();
    const auto answer = service.answer(serve::content_type(encoding), body);
    REQUIRE(answer);
    test::scripted_server server({{{0, http_answer("200 OK", *answer)}}});
    serve::remote_pool<curl_transport> remote({server.url() + "/v1"});
    REQUIRE(remote.blend(request, pool.info().base_hash));
    CHECK(server.connections() == 1);
    const std::string host = server.url().substr(std::string("http://").size());
    CHECK(server.last_request() ==
          "POST /v1/blend HTTP/1.1\r\nHost: " + host +
              "\r\nAccept: */*\r\nContent-Type: " + std::string(serve::content_type(encoding)) +
              "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    std::string expected(8, '\0');
    const std::uint64_t hash = adapter::pool_hash(pool);
    std::memcpy(expected.data(), &hash, 8);
    if (encoding == match::score_encoding::u8) {
      expected += "\xFF\x80\x80";
    } else {
      expected.append(reinterpret_cast<const char*>(weights.data()), 12);
    }
    CHECK(body == expected);
  }
  // The index is asked for with nothing at all.
  test::scripted_server server({{{0, http_answer("200 OK", service.index())}}});
  serve::remote_pool<curl_transport> remote({server.url() + "/v1/"});
  REQUIRE(remote.index());
  CHECK(server.last_request().starts_with("POST /v1/pool/index HTTP/1.1\r\n"));
  CHECK(server.last_request().ends_with("Content-Length: 0\r\n\r\n"));
}

TEST_CASE("what the blend service refuses is one sentence and a 4xx", "[serve]") {
  blend_server at;
  const std::uint64_t hash = adapter::pool_hash(served_pool());
  const auto bytes = [](std::uint64_t pool, std::vector<float> scores) {
    std::string out(8, '\0');
    std::memcpy(out.data(), &pool, 8);
    return out.append(reinterpret_cast<const char*>(scores.data()), 4 * scores.size());
  };
  struct row {
    std::string_view type;
    std::string body;
    int status;
    std::string part;
  };
  const auto f32 = serve::scores_f32_type;
  for (const auto& [type, body, status, part] :
       {row{f32, bytes(hash, {0.5F, 0.25F, 0.25F}), 200, ""},
        row{f32, bytes(hash + 1, {0.5F, 0.25F, 0.25F}), 409, "is about the pool"},
        row{f32, bytes(hash, {0.5F, 0.5F}), 400, "2 scores, the pool has 3 adapters"},
        row{f32, bytes(hash, {0.25F, 0.25F, 0.25F, 0.25F}), 400, "4 scores, the pool has 3"},
        row{f32, bytes(hash, {0.5F, NAN, 0.5F}), 400, "score 1 is nan"},
        row{f32, bytes(hash, {0.5F, -INFINITY, 0.5F}), 400, "score 1 is -inf"},
        row{f32, bytes(hash, {2, -0.5F, -0.5F}), 400, "score 0 is 2"},
        row{f32, bytes(hash, {0.5F, 0, 0}), 400, "sum 0.5"}, row{f32, "", 400, "0 bytes"},
        row{f32, "short", 400, "5 bytes"}, row{f32, std::string(100'000, 'x'), 400, "scores"},
        row{"application/json", "{}", 415, "content type"}, row{"", "", 415, "content type"}}) {
    const auto out = post_scores(at.url, type, body);
    CAPTURE(part, out.body.substr(0, 200));
    CHECK(out.status == status);
    if (status == 200) continue;
    const auto said = io::parse_json(out.body);
    REQUIRE(said.is_object());
    CHECK(said["error"]["message"].get<std::string>().find(part) != std::string::npos);
  }
  CHECK(at.server.metrics().text(0, 0).find("crayon_blends_total 1\n") != std::string::npos);

  auto untitled = served_pool().info();
  untitled.blend = "ties";
  CHECK_FALSE(pool_service::make(test::tiny_pool(test::tiny_weights(7), untitled)));
  const auto bare = adapter::pool<float>::build(
      std::vector{test::tiny_adapter(test::tiny_weights(7).config(), 1)},
      matrix_view<const float>{}, {});
  CHECK_FALSE(pool_service::make(*bare));
}

TEST_CASE("a device takes nothing from a server on trust", "[serve]") {
  const auto pool = served_pool();
  const std::string base = pool.info().base_hash;
  const auto service = *pool_service::make(served_pool());
  const auto request = *match::blend_request::make(
      adapter::pool_hash(pool), std::vector{1.0F, 0.0F, 0.0F}, match::score_encoding::f32);
  const std::string good = *service.answer(serve::scores_f32_type, request.bytes());
  const auto answer_to = [&](const std::string& text, std::size_t most = std::size_t{1} << 20) {
    test::scripted_server server({{{0, text}}});
    serve::remote_pool_options options{server.url()};
    options.most_adapter_bytes = most;
    options.most_index_bytes = most;
    options.deadline = std::chrono::seconds(5);
    serve::remote_pool<curl_transport> remote(options);
    const auto made = remote.blend(request, base);
    CHECK_FALSE(remote.index());
    return made ? std::string() : made.error().text.substr(server.url().size());
  };
  const auto has = [](const std::string& text, std::string_view part) {
    CAPTURE(text, part);
    CHECK(text.find(part) != std::string::npos);
  };
  CHECK(answer_to(http_answer("200 OK", good)).empty());
  has(answer_to(http_answer("200 OK", good), 1000), "the answer is longer than 1000 bytes");
  has(answer_to(http_answer("200 OK", good.substr(0, good.size() - 4))), "truncated");
  has(answer_to(http_answer("200 OK", "<html>")), "not a safetensors file");
  has(answer_to(http_answer("409 Conflict", R"({"error":{"message":"another pool"}})")),
      "/blend: HTTP 409: another pool");
  has(answer_to(http_answer("500 Oops", "\xFF")), "/blend: HTTP 500");
  has(answer_to(""), "/blend: ");
  auto other = adapter::read_peft_body<float>("x", good);
  REQUIRE(other);
  other->info.base_hash = "0123";
  has(answer_to(http_answer("200 OK", *adapter::peft_body("x", other->adapter, other->info))),
      "an adapter for the base model 0123");
  // A size in the header that the body does not have, and a value that is not finite.
  std::string nan = good;
  std::memset(nan.data() + nan.size() - 4, 0xFF, 4);
  has(answer_to(http_answer("200 OK", nan)), "nan");

  // An index is read as carefully.
  const std::string index = service.index();
  REQUIRE(serve::read_pool_index("i", index));
  rng random(1);
  int refused = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string altered = index;
    const std::size_t at = random.below(index.size());
    altered[at] = static_cast<char>(random());
    if (trial % 4 == 0) altered.resize(at);
    const auto read = serve::read_pool_index("i", altered);  // no crash, whatever it is
    if (!read) {
      ++refused;
      CHECK(read.error().text.starts_with("i: "));
    }
  }
  CHECK(refused > 1000);
  for (const auto& [from, to] :
       {std::pair("crayon.pool_index/1", "crayon.pool_index/2"), std::pair("dates", "da\x01s"),
        std::pair("\"centre\"", "\"center\""), std::pair("\"F32\"", "\"U32\"")}) {
    std::string altered = index;
    REQUIRE(altered.find(from) != std::string::npos);
    altered.replace(altered.find(from), std::string_view(from).size(), to);
    CAPTURE(from);
    CHECK_FALSE(serve::read_pool_index("i", altered));
  }
}
