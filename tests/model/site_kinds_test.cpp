// SPDX-License-Identifier: MIT
// Embeddings, heads and biases as sites of a running model, and merged into its weights.
#include <crayon/model/base_matrices.hpp>

#include <cstring>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/peft.hpp>
#include <crayon/blend/activations.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/merge.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/model/delta.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/model/load_llama.hpp>

#include "fixture.hpp"

using namespace crayon;
using adapter::site_kind;

namespace {

struct peft_logits {
  std::vector<std::int32_t> ids;
  std::vector<float> logits;  // (tokens, vocab)
};

/// What PEFT computed, see fixtures/make_site_kinds.py.
peft_logits from_peft(const std::string& name) {
  const auto file = io::safetensors::open(fixture("site_kinds.safetensors"));
  REQUIRE(file);
  const io::tensor& ids = *file->find("ids");
  peft_logits out;
  for (std::size_t i = 0; i < ids.shape[0]; ++i) {
    std::int64_t id = 0;
    std::memcpy(&id, ids.bytes.data() + 8 * i, 8);
    out.ids.push_back(static_cast<std::int32_t>(id));
  }
  const auto& shape = file->find(name + ".logits")->shape;
  out.logits.resize(shape[0] * shape[1]);
  REQUIRE(io::read_matrix(*file, name + ".logits",
                          matrix_view<float>(out.logits.data(), shape[0], shape[1])));
  return out;
}

/// The logits of all tokens, of batches of ten.
template <class B, class D = model::no_delta>
std::vector<float> logits_of(const model::llama_weights<float>& weights,
                             const std::vector<std::int32_t>& ids, const D& delta = {}) {
  model::llama_session<B, float> s(weights, 0, 10);
  std::vector<float> all;
  s.for_each_logits(
      ids,
      [&](std::size_t, std::span<float> row) { all.insert(all.end(), row.begin(), row.end()); },
      delta);
  return all;
}

template <class B, class D>
std::vector<float> token_by_token(const model::llama_weights<float>& weights,
                                  const std::vector<std::int32_t>& ids, const D& delta) {
  model::llama_session<B, float> s(weights);
  std::vector<float> all;
  for (const auto id : ids) {
    const auto row = s.forward(id, delta);
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

adapter::lora_adapter<float> filled(std::vector<adapter::site_shape> shapes, std::uint64_t seed) {
  adapter::lora_adapter<float> made(std::move(shapes));
  rng g(seed);
  for (std::size_t i = 0; i < made.size(); ++i) {
    for (auto m : {made.a(i), made.b(i)}) {
      for (std::size_t j = 0; j < m.size(); ++j) m.data[j] = 0.3F * g.normal();
    }
  }
  return made;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("lora_bias and embedding factors change the logits as PEFT does", "[model]",
                        every_backend) {
  const auto weights = model::load_llama<float>(fixture("tiny"));
  REQUIRE(weights);
  for (const char* name : {"lora-bias", "lora-embedding"}) {
    INFO(name);
    const auto loaded = adapter::load_peft<float>(fixture(name));
    REQUIRE(loaded);
    const auto delta = model::lora_delta<TestType, float>::bind(weights->config(), loaded->adapter);
    REQUIRE(delta);
    const auto want = from_peft(name);
    CHECK(relative_distance(logits_of<TestType>(*weights, want.ids), want.logits) > 0.05);
    CHECK(relative_distance(logits_of<TestType>(*weights, want.ids, *delta), want.logits) < 1e-4);
    CHECK(relative_distance(token_by_token<TestType>(*weights, want.ids, *delta), want.logits) <
          1e-4);
  }
}

TEST_CASE("a blend merged into the weights gives the logits that PEFT's merge gives", "[model]") {
  auto weights = model::load_llama<float>(fixture("tiny"));
  REQUIRE(weights);
  const std::string before = weights->hash();
  std::vector<adapter::lora_adapter<float>> adapters;
  for (const char* name : {"lora", "lora-embedding"}) {
    auto loaded = adapter::load_peft<float>(fixture(name));
    REQUIRE(loaded);
    adapters.push_back(std::move(loaded->adapter));
  }
  const auto set = adapter::adapter_set<float>::build(std::move(adapters));
  REQUIRE(set);
  const std::vector<weighted_slot> w{{0, 0.75F}, {1, -0.5F}};
  const auto want = from_peft("merged");
  const auto base = model::base_matrices(*weights);
  thread_pool threads(2);
  auto merged = blend::merge<simd::highway_static>::blend(
      *set, w, std::span<const adapter::base_matrix<float>>(base), threads);
  REQUIRE(merged);
  CHECK(merged->size() == 16);  // 14 projections, the embedding and the head
  CHECK(weights->hash() != before);
  const auto logits = logits_of<simd::highway_static>(*weights, want.ids);
  CHECK(relative_distance(logits, want.logits) < 1e-4);
  merged->restore();
  CHECK(weights->hash() == before);

  const auto one = blend::concat::blend(*set, w);
  const auto sum = blend::activations::blend(*set, w);
  REQUIRE((one && sum));
  using delta = model::lora_delta<simd::highway_static, float>;
  const auto by_one = delta::bind(weights->config(), *one);
  const auto by_sum = delta::bind(weights->config(), *sum);
  REQUIRE((by_one && by_sum));
  CHECK(relative_distance(logits_of<simd::highway_static>(*weights, want.ids, *by_one), logits) <
        1e-4);
  CHECK(relative_distance(logits_of<simd::highway_static>(*weights, want.ids, *by_sum), logits) <
        1e-4);
}

TEST_CASE("blends of biases and embeddings in any form give the same logits", "[model]") {
  const auto c = small_config();
  const auto weights = random_weights<float>(c);
  const std::string q = model::llama_config::module(2), up = model::llama_config::module(12);
  std::vector<adapter::lora_adapter<float>> adapters;
  adapters.push_back(filled({{q, c.dim / 2, c.dim, 2, 0.5F},
                             {q + ".bias", c.dim / 2, 1, 1, 0.5F, site_kind::bias},
                             {"model.embed_tokens", c.dim, c.vocab, 3, 1.5F, site_kind::embedding}},
                            1));
  adapters.push_back(filled({{up, c.hidden, c.dim, 1, 2.0F},
                             {up + ".bias", c.hidden, 1, 1, 2.0F, site_kind::bias},
                             {q + ".bias", c.dim / 2, 1, 1, 1.0F, site_kind::bias},
                             {"lm_head.bias", c.vocab, 1, 1, 1.0F, site_kind::bias},
                             {"model.embed_tokens", c.dim, c.vocab, 1, 1.0F, site_kind::embedding}},
                            2));
  const auto set = adapter::adapter_set<float>::build(adapters);
  REQUIRE(set);
  const std::vector<weighted_slot> w{{0, 0.5F}, {1, -1.5F}};
  const auto one = blend::concat::blend(*set, w);
  const auto sum = blend::activations::blend(*set, w);
  REQUIRE((one && sum));
  using delta = model::lora_delta<simd::scalar, float>;
  const auto by_one = delta::bind(c, *one), by_sum = delta::bind(c, *sum);
  auto by_two = delta::bind(c, adapters[0], 0.5F);
  REQUIRE((by_one && by_sum && by_two));
  const std::vector<std::int32_t> ids{1, 9, 49, 0, 9};
  const auto only_first = logits_of<simd::scalar>(weights, ids, *by_two);
  REQUIRE(by_two->append(adapters[1], -1.5F));
  const auto want = logits_of<simd::scalar>(weights, ids, *by_two);
  CHECK(relative_distance(only_first, want) > 0.05);
  CHECK(relative_distance(logits_of<simd::scalar>(weights, ids, *by_one), want) < 1e-5);
  CHECK(relative_distance(logits_of<simd::scalar>(weights, ids, *by_sum), want) < 1e-5);
}

TEST_CASE("sites that the model does not have, or has in another shape, are refused", "[model]") {
  const auto c = small_config();
  const auto text = [&](const adapter::site_shape& shape) {
    const adapter::lora_adapter<float> one({shape});
    return model::lora_delta<simd::scalar, float>::bind(c, one).error().text;
  };
  CHECK(text({"model.embed_tokens", c.dim, 51, 1, 1, site_kind::embedding}) ==
        "adapter module model.embed_tokens: A (1, 51) and B (32, 1) do not fit the model's layer "
        "(32, 50)");
  CHECK(text({"lm_head", 51, c.dim, 1, 1}) ==
        "adapter module lm_head: A (1, 32) and B (51, 1) do not fit the model's layer (50, 32)");
  CHECK(text({"lm_head.bias", 50, 2, 1, 1, site_kind::bias}) ==
        "adapter module lm_head.bias: A (1, 2) and B (50, 1) do not fit the model's layer (50, 1)");
  CHECK(text({"model.norm.bias", c.dim, 1, 1, 1, site_kind::bias}) ==
        "adapter module model.norm.bias is not a layer of this model (2 layers)");
}

TEST_CASE("what a model cannot take into its weights is refused, and the weights stay", "[model]") {
  auto tied_config = small_config();
  tied_config.tied = true;
  auto tied = random_weights<float>(tied_config);
  const std::string before = tied.hash();
  const auto text = [&](const adapter::site_shape& shape) {
    const auto set = adapter::adapter_set<float>::build({filled({shape}, 3)});
    REQUIRE(set);
    const auto base = model::base_matrices(tied);
    const auto merged = blend::merge<>::blend(*set, std::vector<weighted_slot>{{0, 1.0F}},
                                              std::span<const adapter::base_matrix<float>>(base));
    REQUIRE(!merged);
    return merged.error().text;
  };
  const auto& c = tied_config;
  const std::string why =
      ": the model ties its embedding and its head, a change of one of them cannot be merged";
  CHECK(text({"model.embed_tokens", c.dim, c.vocab, 1, 1, site_kind::embedding}) ==
        "model.embed_tokens" + why);
  CHECK(text({"lm_head", c.vocab, c.dim, 1, 1}) == "lm_head" + why);
  CHECK(text({model::llama_config::module(0) + ".bias", c.dim, 1, 1, 1, site_kind::bias}) ==
        "the base model has no model.layers.0.self_attn.q_proj.bias to merge into");
  CHECK(tied.hash() == before);
}
