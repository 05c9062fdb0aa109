// SPDX-License-Identifier: MIT
#include <crayon/model/llama_config.hpp>

#include <set>
#include <string>

#include <crayon/model/llama_weights.hpp>

#include "../catch.hpp"

namespace {

using crayon::model::llama_config;
using crayon::model::projection;

constexpr llama_config published(std::size_t dim, std::size_t hidden, std::size_t layers,
                                 std::size_t heads, std::size_t kv_heads, std::size_t vocab,
                                 bool tied) {
  llama_config c;
  c.dim = dim;
  c.hidden = hidden;
  c.layers = layers;
  c.heads = heads;
  c.kv_heads = kv_heads;
  c.head_dim = dim / heads;
  c.vocab = vocab;
  c.tied = tied;
  return c;
}

}  // namespace

TEST_CASE("parameters are counted as the models' cards do", "[model]") {
  CHECK(published(4096, 11008, 32, 32, 32, 32000, false).parameters() == 6'738'415'616);  // Llama 2
  CHECK(published(2048, 5632, 22, 32, 4, 32000, false).parameters() == 1'100'048'384);  // TinyLlama
  CHECK(published(2048, 8192, 16, 32, 8, 128256, true).parameters() == 1'235'814'400);  // 3.2 1B
  CHECK(published(576, 1536, 30, 9, 3, 49152, true).parameters() == 134'515'008);       // SmolLM2
}

TEST_CASE("sites are numbered layer by layer and named as transformers does", "[model]") {
  const auto c = published(64, 172, 5, 8, 4, 512, true);
  CHECK(c.sites() == 35);
  std::set<std::string> names;
  for (std::size_t s = 0; s < c.sites(); ++s) {
    CHECK(llama_config::site(llama_config::layer_of(s), llama_config::projection_of(s)) == s);
    names.insert(llama_config::module(s));
  }
  CHECK(names.size() == 35);
  CHECK(llama_config::module(0) == "model.layers.0.self_attn.q_proj");
  CHECK(llama_config::module(34) == "model.layers.4.mlp.down_proj");
  CHECK(llama_config::module(llama_config::site(12, projection::gate)) ==
        "model.layers.12.mlp.gate_proj");
}

TEST_CASE("a site's shape is that of its weight, heads of any width", "[model]") {
  auto c = published(64, 172, 2, 8, 4, 512, false);
  c.head_dim = 10;  // q is wider than the model
  const crayon::model::llama_weights<float> weights(c);
  std::size_t linear = 0;
  for (std::size_t s = 0; s < c.sites(); ++s) {
    const auto p = llama_config::projection_of(s);
    const auto w = weights.linear(llama_config::layer_of(s), p);
    CHECK(w.rows == c.out(p));
    CHECK(w.cols == c.in(p));
    linear += w.size();
  }
  CHECK(c.out(projection::q) == 80);
  CHECK(c.out(projection::v) == 40);
  CHECK(c.in(projection::o) == 80);
  CHECK(c.parameters() == linear + 2 * c.vocab * c.dim + (2 * c.layers + 1) * c.dim);
}
