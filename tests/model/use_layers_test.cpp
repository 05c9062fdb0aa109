// SPDX-License-Identifier: MIT
// States of a chosen layer.
#include <crayon/model/llama.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"

using namespace crayon;

namespace {

model::llama_weights<float> layered(std::size_t layers) {
  model::llama_config c;
  c.dim = 16;
  c.hidden = 24;
  c.layers = layers;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 4;
  c.vocab = 30;
  c.context = 12;
  model::llama_weights<float> weights(c);
  rng random(6);
  for (float& w : weights.matrices()) w = 0.3F * random.normal();
  return weights;
}

}  // namespace

TEST_CASE("the first layers of a model are a model of that many layers") {
  const auto whole = layered(4);
  const std::vector<std::int32_t> ids{1, 7, 9, 3, 22, 8, 4};
  for (const std::size_t count : {1U, 2U, 3U, 4U}) {
    model::llama_config c = whole.config();
    c.layers = count;
    model::llama_weights<float> cut(c);
    const auto copy = [](matrix_view<const float> from, matrix_view<const float> to) {
      REQUIRE(from.size() == to.size());
      std::copy_n(from.data, from.size(), const_cast<float*>(to.data));
    };
    copy(whole.embedding(), cut.embedding());
    for (std::size_t layer = 0; layer < count; ++layer) {
      for (std::size_t p = 0; p < model::projections_per_layer; ++p) {
        const auto which = static_cast<model::projection>(p);
        copy(whole.linear(layer, which), cut.linear(layer, which));
      }
    }
    model::llama_session<simd::scalar, float> some(whole, 0, 3), all(cut, 0, 3);
    some.use_layers(count);
    std::vector<float> expected;
    all.for_each_hidden(ids, [&](std::size_t, std::span<const float> h) {
      expected.insert(expected.end(), h.begin(), h.end());
    });
    std::vector<float> states;
    some.for_each_hidden(ids, [&](std::size_t, std::span<const float> h) {
      states.insert(states.end(), h.begin(), h.end());
    });
    CHECK(states == expected);
    some.reset();
    all.reset();
    const auto x = some.prefill(ids), y = all.prefill(ids);
    CHECK(std::equal(x.begin(), x.end(), y.begin(), y.end()));
  }
}

TEST_CASE("a session goes back to all layers") {
  const auto weights = layered(3);
  const std::vector<std::int32_t> ids{5, 6, 7};
  model::llama_session<simd::scalar, float> s(weights), untouched(weights);
  s.use_layers(1);
  const auto shallow = s.prefill(ids);
  const std::vector<float> first(shallow.begin(), shallow.end());
  s.reset();
  s.use_layers(0);
  const auto x = s.prefill(ids), y = untouched.prefill(ids);
  CHECK(std::equal(x.begin(), x.end(), y.begin(), y.end()));
  CHECK_FALSE(std::equal(x.begin(), x.end(), first.begin(), first.end()));
}
