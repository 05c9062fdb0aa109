// SPDX-License-Identifier: MIT
// A random model of one token per byte, and a pool for it.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/pool.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/engine/config.hpp>
#include <crayon/model/llama_weights.hpp>
#include <crayon/tokenizer/byte_tokenizer.hpp>

namespace crayon::test {

struct tiny_config : engine::default_config {
  using tokenizer = crayon::tokenizer::byte_tokenizer;
  using embedding = crayon::match::mean_pooling;
};

inline model::llama_weights<float> tiny_weights(std::uint64_t seed, std::size_t context = 96) {
  model::llama_config c;
  c.dim = 16;
  c.hidden = 32;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 4;
  c.vocab = tokenizer::byte_tokenizer::size();
  c.context = context;
  model::llama_weights<float> weights(c);
  rng random(seed);
  for (float& w : weights.matrices()) w = 0.3F * random.normal();
  return weights;
}

inline adapter::lora_adapter<float> tiny_adapter(const model::llama_config& c, std::uint64_t seed) {
  std::vector<adapter::site_shape> shapes;
  for (std::size_t layer = 0; layer < c.layers; ++layer) {
    for (const auto p : {model::projection::q, model::projection::down}) {
      shapes.push_back({model::llama_config::module(model::llama_config::site(layer, p)), c.out(p),
                        c.in(p), 2, 1.5F});
    }
  }
  adapter::lora_adapter<float> made(std::move(shapes));
  rng random(seed);
  for (std::size_t i = 0; i < made.size(); ++i) {
    for (std::size_t j = 0; j < made.a(i).size(); ++j) made.a(i).data[j] = 0.5F * random.normal();
    for (std::size_t j = 0; j < made.b(i).size(); ++j) made.b(i).data[j] = 0.5F * random.normal();
  }
  return made;
}

inline adapter::pool<float> tiny_pool(const model::llama_weights<float>& weights,
                                      adapter::pool_info info = {}, std::size_t adapters = 3) {
  std::vector<adapter::lora_adapter<float>> all;
  const std::size_t d = 2 * weights.config().dim;
  std::vector<float> index(adapters * d);
  rng random(99);
  for (std::size_t k = 0; k < adapters; ++k) {
    all.push_back(tiny_adapter(weights.config(), 50 + k));
    double squares = 0;
    for (std::size_t j = 0; j < d; ++j) {
      index[k * d + j] = random.normal();
      squares += double{index[k * d + j]} * double{index[k * d + j]};
    }
    for (std::size_t j = 0; j < d; ++j) {
      index[k * d + j] = static_cast<float>(double{index[k * d + j]} / std::sqrt(squares));
    }
  }
  return *adapter::pool<float>::build(all, {index.data(), adapters, d}, std::move(info));
}

}  // namespace crayon::test
