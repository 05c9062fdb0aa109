// SPDX-License-Identifier: MIT
#include <crayon/train/import_pool.hpp>

#include <array>

#include <crayon/core/executor.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/tokenizer/byte_tokenizer.hpp>
#include <crayon/train/initialise.hpp>

#include "../catch.hpp"
#include "byte_llama.hpp"

using namespace crayon;

TEST_CASE("foreign adapters of other ranks become a pool with index vectors of texts", "[train]") {
  const auto c = crayon_test::byte_llama();
  rng random(1);
  const auto weights = train::initial_weights(c, random, 0.2F);
  std::vector<adapter::lora_adapter<float>> adapters;
  for (const std::size_t rank : {2U, 3U}) {
    adapters.push_back(train::initial_adapter(
        train::lora_shapes(c, rank, 4, std::array{model::projection::q}), random));
    for (auto& b : std::span(adapters.back().b(0).data, adapters.back().b(0).size())) {
      b = random.normal();
    }
  }
  adapter::peft_set<float> set;
  set.info.base_model = "tiny";
  set.info.base_hash = weights.hash();
  const auto own = adapters[0].factors(0);
  const float entry = own.scale * (own.b(3, 0) * own.a(0, 5) + own.b(3, 1) * own.a(1, 5));
  set.adapters = *adapter::adapter_set<float>::build(adapters, {"next", "two"});
  std::vector<std::vector<io::text_sample>> texts(2);
  for (char x = 'a'; x < 'i'; ++x) {
    texts[0].push_back({std::string("next ") + x, {static_cast<char>(x + 1)}, ""});
    texts[1].push_back({std::string("TWO ") + x, {x, x}, ""});
  }
  serial_executor serial;
  const auto import = [&] {
    return train::import_pool<simd::highway_dynamic>(
        weights, tokenizer::byte_tokenizer{}, set,
        std::span<const std::vector<io::text_sample>>(texts), serial, 0.2F);
  };
  const auto pool = import();
  REQUIRE(pool);
  CHECK(pool->info().names == std::vector<std::string>{"next", "two"});
  CHECK(pool->info().base_hash == weights.hash());
  CHECK(pool->info().blend == "concat");
  CHECK(pool->info().tau == 0.2F);
  const auto padded = pool->extract(0);
  CHECK(padded.shape(0).rank == 3);
  const auto f = padded.factors(0);
  float sum = 0;
  for (std::size_t r = 0; r < 3; ++r) sum += f.scale * f.b(3, r) * f.a(r, 5);
  CHECK(sum == Approx(entry));

  // A sample is nearest to the adapter that its like were given for.
  for (std::size_t k = 0; k < 2; ++k) {
    const std::vector one{tokenizer::encode_sample(tokenizer::byte_tokenizer{},
                                                   {texts[k][2].prompt, texts[k][2].completion})};
    const auto embedded = train::embed_all<simd::highway_dynamic, match::error_pooling>(
        weights, std::span(one), serial);
    const match::index_space space{pool->info().centre, pool->info().projection};
    const auto place = space.place({embedded.data(), 1, embedded.size()});
    const auto w =
        match::cosine_softmax{0.2F}.weights(pool->index(), {place.data(), 1, place.size()});
    CHECK(w[k] > 0.9F);
  }
  const auto refused = [&](const std::string& text) {
    const auto made = import();
    REQUIRE(!made);
    INFO(made.error().text);
    CHECK(made.error().text.find(text) != std::string::npos);
  };
  // One adapter of one text: nothing is left of it around the mean of all.
  auto whole = std::move(set.adapters);
  const auto all_texts = texts;
  set.adapters = *adapter::adapter_set<float>::build({adapters[0]}, {"next"});
  texts = {{texts[0][0]}};
  const auto lone = import();
  REQUIRE(lone);
  CHECK(lone->info().centre.empty());
  set.adapters = std::move(whole);
  texts = all_texts;

  texts[1].clear();
  refused("two: no texts");
  texts.pop_back();
  refused("1 texts for 2 adapters");
  set.info.base_hash = "0";
  refused("made for the base model 0");
}
