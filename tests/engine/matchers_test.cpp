// SPDX-License-Identifier: MIT
// An engine follows what its pool says of layer, centroids and top_k.
#include <crayon/engine/device_engine.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <crayon/match/centroid.hpp>
#include <crayon/match/top_k.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

using namespace crayon;

namespace {

template <class Matcher>
struct matching_config : test::tiny_config {
  using matcher = Matcher;
};

const std::vector<engine::sample> own_samples{{"2+3", "five"}, {"7+1", "eight"}, {"a", "b"}};

/// Three adapters with `centroids` random unit vectors each.
adapter::pool<float> pool_with(const model::llama_weights<float>& weights,
                               adapter::pool_info info) {
  const std::size_t d = 2 * weights.config().dim;
  std::vector<float> vectors(3 * info.centroids * d);
  rng random(31);
  for (float& x : vectors) x = random.normal();
  const auto index = match::index_of(vectors, info.centroids, d);
  std::vector<adapter::lora_adapter<float>> all;
  for (std::uint64_t k = 0; k < 3; ++k) {
    all.push_back(test::tiny_adapter(weights.config(), 50 + k));
  }
  const std::size_t width = info.centroids * d;
  return *adapter::pool<float>::build(all, {index.data(), 3, width}, std::move(info));
}

/// f(x) of every sample after so many layers.
std::vector<float> places(const model::llama_weights<float>& weights, std::size_t layer) {
  std::vector<float> rows;
  model::llama_session<simd::scalar, float> s(weights);
  for (const auto& one : own_samples) {
    const auto encoded = engine::encode_sample(tokenizer::byte_tokenizer{}, one);
    std::vector<float> f(2 * weights.config().dim);
    s.use_layers(layer);
    match::embed(s, encoded.ids, encoded.prompt_tokens, f);
    match::normalise(f);
    rows.insert(rows.end(), f.begin(), f.end());
  }
  return rows;
}

template <class Matcher>
std::vector<float> customized(const adapter::pool<float>& pool,
                              engine::pool_overrides allowed = {}) {
  auto device = engine::device_engine<matching_config<Matcher>>::make(test::tiny_weights(1), {});
  REQUIRE(device);
  const auto before = device->answer("9+9=", {.max_tokens = 8})->text;
  const auto made = device->customize(pool, own_samples, allowed);
  INFO((made ? std::string() : made.error().text));
  REQUIRE(made);
  CHECK(device->answer("9+9=", {.max_tokens = 8}));
  device->use_base();  // all layers run again
  CHECK(device->answer("9+9=", {.max_tokens = 8})->text == before);
  return made->weights;
}

}  // namespace

TEST_CASE("layer, centroids and top_k of a pool are followed", "[engine]") {
  const auto weights = test::tiny_weights(1);
  for (const std::size_t layer : {0U, 1U}) {
    const auto rows = places(weights, layer);
    const matrix_view<const float> samples(rows.data(), 3, rows.size() / 3);
    adapter::pool_info info;
    info.layer = layer;
    info.centroids = 2;
    info.tau = 0.3F;
    info.top_k = 2;
    info.matcher = "top_k";
    const auto pool = pool_with(weights, info);
    const auto expected = match::top_k{0.3F, 2}.weights(pool.index(), samples);
    const auto found = customized<match::top_k>(pool);
    for (std::size_t k = 0; k < 3; ++k) CHECK(found[k] == Approx(expected[k]).margin(1e-6));

    info.matcher = "centroid";
    const auto voted = customized<match::centroid>(pool_with(weights, info));
    const auto votes = match::centroid{}.weights(pool.index(), samples);
    for (std::size_t k = 0; k < 3; ++k) CHECK(voted[k] == Approx(votes[k]));
  }
  const auto last = places(weights, 0), first = places(weights, 1);
  CHECK(last != first);
}

TEST_CASE("a pool of a deeper layer, or of another matcher, is refused", "[engine]") {
  const auto weights = test::tiny_weights(1);
  adapter::pool_info info;
  info.layer = 3;
  auto device =
      *engine::device_engine<matching_config<match::top_k>>::make(test::tiny_weights(1), {});
  CHECK(device.customize(pool_with(weights, info), own_samples).error().text ==
        "the pool's embeddings are of layer 3, this model has 2");
  info.layer = 0;
  info.matcher = "arrow";
  CHECK(device.customize(pool_with(weights, info), own_samples).error().text ==
        "the pool was made with the matcher arrow, this engine has top_k");
  info.matcher.clear();
  info.tau = -1;
  CHECK_FALSE(device.customize(pool_with(weights, info), own_samples));
}
