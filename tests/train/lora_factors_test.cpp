// SPDX-License-Identifier: MIT
#include <crayon/train/lora_factors.hpp>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "oracle.hpp"

using namespace crayon;
using model::projection;

namespace {

constexpr std::array some{projection::v, projection::down};

std::string refused(const std::vector<adapter::lora_adapter<float>>& adapters) {
  const auto made = train::lora_factors::from(oracle::config(true), adapters);
  return made ? "" : made.error().text;
}

}  // namespace

TEST_CASE("adapters come back as they went in", "[train]") {
  const auto config = oracle::config(true);
  rng random(1);
  std::vector<adapter::lora_adapter<float>> adapters;
  for (int i = 0; i < 3; ++i) {
    adapters.push_back(train::initial_adapter(train::lora_shapes(config, 3, 6, some), random));
    for (std::size_t s = 0; s < adapters.back().size(); ++s) {
      auto b = adapters.back().b(s);
      for (std::size_t j = 0; j < b.size(); ++j) b.data[j] = random.normal();
    }
  }
  const auto factors = train::lora_factors::from(config, adapters);
  REQUIRE(factors);
  REQUIRE(factors->sites().size() == 4);
  CHECK(factors->find(model::llama_config::site(0, projection::q)) == nullptr);
  const auto* site = factors->find(model::llama_config::site(1, projection::down));
  REQUIRE(site != nullptr);
  CHECK(factors->number(*site) == 3);
  CHECK(site->total == 9);
  CHECK(site->scale == 2);
  // Row 2 of adapter 1 is row 5 of A_cat; column 2 of adapter 1 is row 5 of B_cat^T.
  CHECK(factors->values()[site->a + 5 * site->in + 4] == adapters[1].a(3)(2, 4));
  CHECK(factors->values()[site->b + 5 * site->out + 4] == adapters[1].b(3)(4, 2));
  for (const auto& original : adapters) {
    adapter::lora_adapter<float> copy(original.shapes());
    factors->store(static_cast<std::size_t>(&original - adapters.data()), copy);
    for (std::size_t s = 0; s < copy.size(); ++s) {
      CHECK(std::equal(copy.a(s).data, copy.a(s).data + copy.a(s).size(),
                       original.factors(s).a.data));
      CHECK(std::equal(copy.b(s).data, copy.b(s).data + copy.b(s).size(),
                       original.factors(s).b.data));
    }
  }
}

TEST_CASE("adapters that cannot be trained together are refused by name", "[train]") {
  const auto config = oracle::config(true);
  const auto shapes = train::lora_shapes(config, 2, 4, some);
  using adapters = std::vector<adapter::lora_adapter<float>>;
  CHECK(refused({}) == "no adapter to train");
  CHECK(refused(adapters(2, adapter::lora_adapter<float>(shapes))).empty());
  auto other = shapes;
  other[1].scale = 9;
  CHECK(refused({adapter::lora_adapter<float>(shapes), adapter::lora_adapter<float>(other)}) ==
        "adapter 1 and adapter 0 differ in sites, ranks or scales");
  other = shapes;
  other[0].module = "model.layers.9.self_attn.v_proj";
  CHECK(refused({adapter::lora_adapter<float>(other)}) ==
        "model.layers.9.self_attn.v_proj: no such module in the model");
  other = shapes;
  other[0].module = "model.embed_tokens";
  other[0].kind = adapter::site_kind::embedding;
  CHECK(refused({adapter::lora_adapter<float>(other)}) ==
        "model.embed_tokens: training adapts the projections only, not embedding sites");
  other = shapes;
  other[0].out = 13;
  CHECK(refused({adapter::lora_adapter<float>(other)}) ==
        "model.layers.0.self_attn.v_proj: the adapter is for (13, 20) with rank 2, the model has "
        "(12, 20)");
}

TEST_CASE("a new adapter changes nothing and its A has the promised spread", "[train]") {
  rng random(2);
  constexpr std::array all{projection::q, projection::down};
  const auto config = model::llama_config{.dim = 64,
                                          .hidden = 256,
                                          .layers = 1,
                                          .heads = 2,
                                          .kv_heads = 2,
                                          .head_dim = 32,
                                          .vocab = 8,
                                          .context = 8};
  const auto made = train::initial_adapter(train::lora_shapes(config, 16, 16, all), random);
  for (std::size_t s = 0; s < made.size(); ++s) {
    const auto f = made.factors(s);
    double squares = 0;
    for (std::size_t j = 0; j < f.a.size(); ++j)
      squares += double{f.a.data[j]} * double{f.a.data[j]};
    const auto count = static_cast<double>(f.a.size());
    CHECK(squares / count == Approx(1.0 / static_cast<double>(f.a.cols)).epsilon(0.15));
    for (std::size_t j = 0; j < f.b.size(); ++j) REQUIRE(f.b.data[j] == 0);
  }
}
