// SPDX-License-Identifier: MIT
// An engine that is customized by a pool of arrow prototypes.
#include <crayon/engine/arrow_task.hpp>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/peft.hpp>
#include <crayon/blend/activations.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/engine/device_engine.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/model/load_llama.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

using namespace crayon;
using engine::sample;

namespace arrow_task_tests {

struct arrow_config : test::tiny_config {
  using matcher = match::arrow;
};
struct linear_config : arrow_config {
  using blend = crayon::blend::linear<>;
};
struct kept_config : arrow_config {
  using blend = crayon::blend::activations;
};
struct near_config : arrow_config {
  using scope_distance = engine::sample_distance;
};
using arrow_engine = engine::device_engine<arrow_config>;
static_assert(engine::engine_config<arrow_config> && engine::engine_config<kept_config>);

/// A pool that is elsewhere, as far as a type can tell.
struct anywhere {
  struct index_type {
    matrix_view<const float> view() const { return {}; }
    adapter::pool_info info;
    std::uint64_t hash = 0;
  };
  struct answer_type {
    adapter::lora_adapter<float> adapter;
  };
  result<index_type> index() { return error{}; }
  template <class E = float>
  result<answer_type> blend(const match::blend_request&, std::string_view) {
    return error{};
  }
};
template <class Engine>
concept takes_remote = requires(Engine& e, anywhere& pool, std::span<const sample> samples) {
  e.customize(pool, samples);
};
// A request has no room for a weight per site.
static_assert(takes_remote<engine::device_engine<test::tiny_config>>);
static_assert(!takes_remote<arrow_engine>);

const std::vector<sample> own{{"2+3", "five"}, {"7+1", "eight"}, {"a", "b, and more of it"}};

adapter::pool<float> arrow_pool(const model::llama_weights<float>& weights,
                                adapter::pool_info info) {
  std::vector<adapter::lora_adapter<float>> all;
  for (std::uint64_t k = 0; k < 3; ++k) all.push_back(test::tiny_adapter(weights.config(), 70 + k));
  const auto set = *adapter::adapter_set<float>::build(all);
  const auto prototypes = *match::arrow_prototypes::of(set);
  const auto index = prototypes.index();
  return *adapter::pool<float>::build(all, {index.data(), 3, index.size() / 3}, std::move(info));
}

adapter::pool_info arrow_info() {
  adapter::pool_info info;
  info.matcher = "arrow";
  info.tau = 0.7F;
  info.top_k = 2;
  return info;
}

template <class Config>
engine::device_engine<Config> tiny_engine() {
  return *engine::device_engine<Config>::make(test::tiny_weights(1), {});
}

std::vector<std::int32_t> ids_of(const io::safetensors& file, const char* key) {
  const auto* raw = file.find(key);
  REQUIRE(raw != nullptr);
  std::vector<std::int64_t> stored(raw->bytes.size() / sizeof(std::int64_t));
  std::memcpy(stored.data(), raw->bytes.data(), raw->bytes.size());
  return {stored.begin(), stored.end()};
}

}  // namespace arrow_task_tests

using namespace arrow_task_tests;

TEST_CASE("a user's weights per site are PEFT's, and so is the model with their blend",
          "[engine]") {
  const std::string fixtures = CRAYON_SOURCE_DIR "/tests/match/fixtures/";
  const auto weights = model::load_llama<float>(CRAYON_SOURCE_DIR "/tests/model/fixtures/tiny");
  REQUIRE(weights);
  std::vector<adapter::lora_adapter<float>> all;
  for (const char* name : {"a0", "a1", "a2"}) {
    all.push_back(adapter::load_peft<float>(fixtures + "arrow/" + name)->adapter);
  }
  const auto set = *adapter::adapter_set<float>::build(std::move(all));
  const auto theirs = *io::safetensors::open(fixtures + "arrow.safetensors");
  const auto user = *io::safetensors::open(fixtures + "arrow_user.safetensors");
  std::vector<std::vector<float>> rows(3);  // PEFT's own prototypes, see arrow_test.cpp
  for (std::size_t i = 0; i < set.sites(); ++i) {
    std::vector<float> of_site(3 * set.in(i));
    REQUIRE(io::read_matrix(theirs, std::string(set.module(i)) + ".prototypes",
                            matrix_view<float>(of_site.data(), 3, set.in(i))));
    for (std::size_t k = 0; k < 3; ++k) {
      const auto from = of_site.begin() + static_cast<std::ptrdiff_t>(k * set.in(i));
      rows[k].insert(rows[k].end(), from, from + static_cast<std::ptrdiff_t>(set.in(i)));
    }
  }
  std::vector<float> index;
  for (const auto& row : rows) index.insert(index.end(), row.begin(), row.end());
  const auto prototypes = match::arrow_prototypes::from_index(set.adapter(0).shapes(),
                                                              {index.data(), 3, index.size() / 3});
  REQUIRE(prototypes);

  const auto first = ids_of(user, "ids_0");
  const std::vector<engine::encoded_sample> samples{{first, 7}, {ids_of(user, "ids_1"), 1}};
  model::llama_session<simd::scalar, float> session(*weights, 0, 5);  // in batches of 5
  const auto found = engine::match_by_arrow(session, *prototypes, samples, match::arrow{0.5F, 2});
  REQUIRE(found);
  double off_mean = 0;
  for (std::size_t i = 0; i < set.sites(); ++i) {
    std::vector<float> expected(3);
    REQUIRE(io::read_matrix(user, std::string(set.module(i)) + ".weights",
                            matrix_view<float>(expected.data(), 1, 3)));
    for (std::size_t k = 0; k < 3; ++k) {
      CHECK(found->per_site[i * 3 + k] == Approx(expected[k]).margin(1e-5));
      off_mean = std::max(off_mean, std::abs(double{expected[k]} - double{found->weights[k]}));
    }
  }
  CHECK(off_mean > 0.05);  // a mean over the sites would not do

  const auto blended = blend::by_site<blend::concat>(
      set, matrix_view<const float>(found->per_site.data(), set.sites(), 3));
  REQUIRE(blended);
  const auto delta = model::lora_delta<simd::scalar, float>::bind(weights->config(), *blended);
  REQUIRE(delta);
  const std::size_t vocab = weights->config().vocab;
  std::vector<float> expected(first.size() * vocab);
  REQUIRE(
      io::read_matrix(user, "logits", matrix_view<float>(expected.data(), first.size(), vocab)));
  double squares = 0, off = 0;
  session.reset();
  session.for_each_logits(
      first,
      [&](std::size_t i, std::span<const float> logits) {
        for (std::size_t v = 0; v < vocab; ++v) {
          const double e = double{expected[i * vocab + v]}, d = double{logits[v]} - e;
          squares += e * e;
          off += d * d;
        }
      },
      *delta);
  CHECK(std::sqrt(off / squares) < 1e-4);
}

TEST_CASE("an engine with arrow is customized by a weight per site and adapter", "[engine]") {
  const auto weights = test::tiny_weights(1);
  const auto pool = arrow_pool(weights, arrow_info());
  auto device = tiny_engine<arrow_config>();
  const auto made = device.customize(pool, own);
  REQUIRE(made);

  std::vector<engine::encoded_sample> encoded;
  for (const auto& s : own) {
    encoded.push_back(engine::encode_sample(tokenizer::byte_tokenizer{}, s));
  }
  const auto prototypes = *match::arrow_prototypes::of(pool);
  model::llama_session<simd::scalar, float> session(weights);
  const auto expected = engine::match_by_arrow(session, prototypes, encoded, match::arrow{0.7F, 2});
  REQUIRE(expected);
  REQUIRE(made->site_weights.size() == pool.sites() * 3);
  for (std::size_t j = 0; j < made->site_weights.size(); ++j) {
    CHECK(made->site_weights[j] == Approx(expected->per_site[j]).margin(1e-5));
  }
  for (std::size_t k = 0; k < 3; ++k) {
    CHECK(made->weights[k] == Approx(expected->weights[k]).margin(1e-5));
  }

  // The adapter in use is that blend: one per site, and not the mean.
  const matrix_view<const float> rows(made->site_weights.data(), pool.sites(), 3);
  const auto by_site = blend::by_site<blend::concat>(pool, rows, blend::negligible);
  REQUIRE(by_site);
  REQUIRE(device.blended() != nullptr);
  CHECK(device.blended()->shapes() == by_site->shapes());
  auto other = tiny_engine<test::tiny_config>();
  REQUIRE(other.use(*by_site));
  const auto text = device.answer("9+9=", {.max_tokens = 20})->text;
  CHECK(text == other.answer("9+9=", {.max_tokens = 20})->text);
  CHECK(device.fork().answer("9+9=", {.max_tokens = 20})->text == text);

  auto kept = tiny_engine<kept_config>();
  REQUIRE(kept.customize(pool, own));
  CHECK(kept.answer("9+9=", {.max_tokens = 20})->text == text);
  auto factors = tiny_engine<linear_config>();
  REQUIRE(factors.customize(pool, own));
  CHECK(factors.blended()->shapes() == pool.shapes());
}

TEST_CASE("a query's distance is measured by what arrow gives its prompt", "[engine]") {
  const auto weights = test::tiny_weights(1);
  const auto pool = arrow_pool(weights, arrow_info());
  const auto prototypes = *match::arrow_prototypes::of(pool);
  const match::arrow routing{0.7F, 2};
  model::llama_session<simd::scalar, float> session(weights);
  const auto weights_of = [&](std::string_view prompt) {
    const std::vector<engine::encoded_sample> one{
        {engine::encode_prompt(tokenizer::byte_tokenizer{}, prompt), 0}};
    return *engine::match_by_arrow(session, prototypes, one, routing);
  };
  auto device = tiny_engine<arrow_config>();
  REQUIRE(device.customize(pool, own));
  std::vector<float> task(3);
  for (const auto& s : own) {
    const auto w = weights_of(s.prompt).weights;
    for (std::size_t k = 0; k < 3; ++k) task[k] += w[k] / 3;
  }
  const auto seen = device.begin("9+9=");
  REQUIRE(seen);
  CHECK(seen->scope_distance ==
        Approx(router::weight_cross_entropy(weights_of("9+9=").weights, task)).margin(1e-4));

  // Bhattacharyya's coefficient with the nearest sample: the sample itself is at no distance.
  auto near = tiny_engine<near_config>();
  REQUIRE(near.customize(pool, own));
  CHECK(near.begin(own[1].prompt)->scope_distance == Approx(0).margin(1e-5));
  const auto query = weights_of("9+9=").per_site;
  double best = 0;
  for (const auto& s : own) {
    const auto w = weights_of(s.prompt).per_site;
    double sum = 0;
    for (std::size_t j = 0; j < w.size(); ++j) sum += std::sqrt(double{w[j]} * double{query[j]});
    best = std::max(best, sum / static_cast<double>(pool.sites()));
  }
  CHECK(near.begin("9+9=")->scope_distance == Approx(1 - best).margin(1e-5));
}

TEST_CASE("an engine with arrow takes prototypes from the factors where it is told to",
          "[engine]") {
  const auto weights = test::tiny_weights(1);
  auto device = tiny_engine<arrow_config>();
  auto info = arrow_info();
  const auto right = device.customize(arrow_pool(weights, info), own);
  REQUIRE(right);

  info.matcher = "cosine_softmax";
  const auto texts = test::tiny_pool(weights, info);
  CHECK(device.customize(texts, own).error().text ==
        "the pool was made with the matcher cosine_softmax, this engine has arrow");
  engine::pool_overrides allowed;
  allowed.matcher = true;
  const auto made = device.customize(texts, own, allowed);
  REQUIRE(made);
  const auto same = device.customize(arrow_pool(weights, info), own, allowed);
  REQUIRE(same);
  for (std::size_t j = 0; j < right->site_weights.size(); ++j) {
    CHECK(same->site_weights[j] == Approx(right->site_weights[j]).margin(1e-5));
  }

  // After an error everything is as it was.
  const auto before = device.answer("9+9=", {.max_tokens = 20})->text;
  info = arrow_info();
  info.tau = 0;
  CHECK(device.customize(arrow_pool(weights, info), own).error().text ==
        "the temperature of arrow is 0.000000, needs a positive number");
  info.tau = 1;
  CHECK(device.customize(test::tiny_pool(weights, info), own).error().text ==
        "index vectors of length 32, the prototypes of 4 sites have 96");
  CHECK(device.customize(arrow_pool(weights, info), {}).error().text ==
        "no samples to customize from");
  info.base_hash = "another";
  CHECK_FALSE(device.customize(arrow_pool(weights, info), own));
  CHECK(device.answer("9+9=", {.max_tokens = 20})->text == before);
}
