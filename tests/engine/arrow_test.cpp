// SPDX-License-Identifier: MIT
#include <crayon/engine/arrow.hpp>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/peft.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/model/load_llama.hpp>
#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

using namespace crayon;
using engine::encoded_sample;

namespace {

using scalar_session = model::llama_session<simd::scalar, float>;
using scalar_arrow = engine::arrow_delta<simd::scalar, float>;

/// Encoded by hand: ids, the first `prompt` of which are the prompt.
encoded_sample ids_of(std::vector<std::int32_t> ids, std::size_t prompt) {
  return {std::move(ids), prompt};
}

adapter::adapter_set<float> tiny_set(const model::llama_config& config) {
  std::vector<adapter::lora_adapter<float>> all;
  for (std::uint64_t k = 0; k < 3; ++k) all.push_back(test::tiny_adapter(config, 20 + k));
  return *adapter::adapter_set<float>::build(std::move(all));
}

}  // namespace

TEST_CASE("a model that routes by arrow is PEFT's", "[engine]") {
  const std::string match_fixtures = CRAYON_SOURCE_DIR "/tests/match/fixtures/";
  const auto weights = model::load_llama<float>(CRAYON_SOURCE_DIR "/tests/model/fixtures/tiny");
  REQUIRE(weights);
  std::vector<adapter::lora_adapter<float>> all;
  for (const char* name : {"a0", "a1", "a2"}) {
    auto loaded = adapter::load_peft<float>(match_fixtures + "arrow/" + name);
    REQUIRE(loaded);
    all.push_back(std::move(loaded->adapter));
  }
  const auto set = *adapter::adapter_set<float>::build(std::move(all));
  // PEFT's own prototypes: where singular values lie close together, its 15 power iterations give
  // other vectors than an SVD does (tests/match), and so other choices.
  const auto file = io::safetensors::open(match_fixtures + "arrow.safetensors");
  REQUIRE(file);
  std::vector<float> index;
  for (std::size_t k = 0; k < 3; ++k) {
    for (std::size_t i = 0; i < set.sites(); ++i) {
      std::vector<float> all_three(3 * set.in(i));
      REQUIRE(io::read_matrix(*file, std::string(set.module(i)) + ".prototypes",
                              matrix_view<float>(all_three.data(), 3, set.in(i))));
      const auto from = all_three.begin() + static_cast<std::ptrdiff_t>(k * set.in(i));
      index.insert(index.end(), from, from + static_cast<std::ptrdiff_t>(set.in(i)));
    }
  }
  auto prototypes = match::arrow_prototypes::from_index(set.adapter(0).shapes(),
                                                        {index.data(), 3, index.size() / 3});
  REQUIRE(prototypes);
  const auto delta =
      scalar_arrow::bind(weights->config(), set, *std::move(prototypes), match::arrow{0.5F, 2});
  REQUIRE(delta);

  const std::size_t tokens = 16, vocab = weights->config().vocab;
  std::vector<std::int64_t> stored(tokens);
  const auto* raw = file->find("ids");
  REQUIRE(raw->bytes.size() == tokens * sizeof(std::int64_t));
  std::memcpy(stored.data(), raw->bytes.data(), raw->bytes.size());
  const std::vector<std::int32_t> ids(stored.begin(), stored.end());
  std::vector<float> expected(tokens * vocab);
  REQUIRE(io::read_matrix(*file, "logits", matrix_view<float>(expected.data(), tokens, vocab)));

  double squares = 0, off = 0, plain = 0;
  scalar_session s(*weights, 0, 5);  // in batches of 5
  s.for_each_logits(
      ids,
      [&](std::size_t i, std::span<const float> logits) {
        for (std::size_t v = 0; v < vocab; ++v) {
          const double e = double{expected[i * vocab + v]};
          squares += e * e;
          off += (double{logits[v]} - e) * (double{logits[v]} - e);
        }
      },
      *delta);
  s.reset();
  s.for_each_logits(ids, [&](std::size_t i, std::span<const float> logits) {
    for (std::size_t v = 0; v < vocab; ++v) {
      const double d = double{logits[v]} - double{expected[i * vocab + v]};
      plain += d * d;
    }
  });
  CHECK(std::sqrt(off / squares) < 1e-4);
  CHECK(std::sqrt(plain / squares) > 0.1);
}

TEST_CASE("one adapter alone is that adapter", "[engine]") {
  const auto weights = test::tiny_weights(4);
  const auto one = test::tiny_adapter(weights.config(), 9);
  const auto set = *adapter::adapter_set<float>::build({one});
  const auto routed = scalar_arrow::bind(weights.config(), set);
  const auto plain = model::lora_delta<simd::scalar, float>::bind(weights.config(), one);
  REQUIRE(routed);
  REQUIRE(plain);
  scalar_session a(weights), b(weights);
  const std::vector<std::int32_t> ids{1, 40, 60, 7};
  const auto x = a.prefill(ids, *routed), y = b.prefill(ids, *plain);
  for (std::size_t v = 0; v < x.size(); ++v) CHECK(x[v] == Approx(y[v]).margin(1e-5));
}

TEST_CASE("a user's weights are the mean over samples of their tokens' choice", "[engine]") {
  const auto weights = test::tiny_weights(4);
  const auto prototypes = match::arrow_prototypes::of(tiny_set(weights.config()));
  REQUIRE(prototypes);
  const match::arrow routing{0.7F, 2};
  const std::vector<encoded_sample> both{ids_of({1, 40, 60, 7, 2}, 3), ids_of({1, 90, 91}, 2)};
  scalar_session s(weights, 0, 2);
  const auto all = engine::match_by_arrow(s, *prototypes, both, routing);
  const auto first = engine::match_by_arrow(s, *prototypes, {both.data(), 1}, routing);
  const auto second = engine::match_by_arrow(s, *prototypes, {both.data() + 1, 1}, routing);
  REQUIRE(all);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(s.position() == 0);
  REQUIRE(all->weights.size() == 3);
  double sum = 0;
  for (std::size_t k = 0; k < 3; ++k) {
    sum += double{all->weights[k]};
    CHECK(all->weights[k] == Approx((first->weights[k] + second->weights[k]) / 2));
    double mean = 0;
    for (std::size_t i = 0; i < prototypes->sites(); ++i) {
      mean += double{all->per_site[i * 3 + k]} / static_cast<double>(prototypes->sites());
    }
    CHECK(all->weights[k] == Approx(mean));
  }
  CHECK(sum == Approx(1));

  // The first site (q of layer 0) sees the normed embedding of each token.
  std::vector<double> by_hand(3);
  const auto& c = weights.config();
  for (const std::int32_t id : both[1].ids) {
    std::vector<float> x(c.dim);
    simd::scalar::rms_norm(weights.embedding().row(static_cast<std::size_t>(id)),
                           weights.attention_norm(0), c.norm_epsilon, x.data(), c.dim);
    float chosen[3];
    routing.coefficients(prototypes->at(0), x.data(), chosen);
    for (std::size_t k = 0; k < 3; ++k) by_hand[k] += double{chosen[k]} / 3;
  }
  for (std::size_t k = 0; k < 3; ++k) CHECK(second->per_site[k] == Approx(by_hand[k]).margin(1e-6));
}

TEST_CASE("arrow refuses what it cannot route", "[engine]") {
  const auto weights = test::tiny_weights(4);
  auto shapes = test::tiny_adapter(weights.config(), 9).shapes();
  scalar_session s(weights);
  const auto refusal = [&](auto change, std::vector<encoded_sample> samples) {
    auto changed = shapes;
    change(changed);
    adapter::lora_adapter<float> made(changed);
    for (std::size_t i = 0; i < made.size(); ++i) {
      for (std::size_t j = 0; j < made.a(i).size(); ++j) made.a(i).data[j] = 1;
      for (std::size_t j = 0; j < made.b(i).size(); ++j) made.b(i).data[j] = 1;
    }
    const auto set = *adapter::adapter_set<float>::build({made});
    const auto prototypes = match::arrow_prototypes::of(set);
    if (!prototypes) return prototypes.error().text;
    const auto matched = engine::match_by_arrow(s, *prototypes, samples);
    return matched ? std::string() : matched.error().text;
  };
  const std::vector<encoded_sample> good{ids_of({1, 5}, 1)};
  CHECK(refusal([](auto&) {}, good).empty());
  CHECK(refusal([](auto&) {}, {}) == "arrow over 0 samples, 4 sites and 1 adapters");
  CHECK(refusal([](auto&) {}, {ids_of({1, -5}, 1)}) ==
        "sample 0: token 1: id -5 is outside the vocabulary of 259");
  CHECK(refusal([](auto& c) { c[2].module = "model.layers.9.mlp.up_proj"; }, good) ==
        "adapter module model.layers.9.mlp.up_proj is not a linear layer of this model (2 layers)");
  CHECK(refusal([](auto& c) { c[0].in = 3; }, good) ==
        "adapter module model.layers.0.self_attn.q_proj: an input of 3, the model's layer has 16");
  shapes[0].out = 3;
  const auto set = *adapter::adapter_set<float>::build({adapter::lora_adapter<float>(shapes)});
  CHECK(scalar_arrow::bind(weights.config(), set).error().text ==
        "adapter module model.layers.0.self_attn.q_proj: 3 outputs, the model's layer has 16");
}
