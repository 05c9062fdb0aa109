// SPDX-License-Identifier: MIT
#include <crayon/engine/few_shot_search.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <crayon/blend/concat.hpp>
#include <crayon/engine/completion_loss.hpp>
#include <crayon/model/generate.hpp>
#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

using namespace crayon;

namespace {

using search_session = model::llama_session<simd::scalar, float>;
using search_delta = model::lora_delta<simd::scalar, float>;

/// What the model with that adapter says itself, as samples.
std::vector<engine::encoded_sample> samples_of(const model::llama_weights<float>& weights,
                                               const adapter::lora_adapter<float>& adapter) {
  const auto delta = search_delta::bind(weights.config(), adapter);
  REQUIRE(delta);
  std::vector<engine::encoded_sample> samples;
  search_session s(weights);
  for (const std::int32_t first : {60, 80, 100, 120, 140}) {
    engine::encoded_sample one{{1, first, first + 1}, 3};
    s.reset();
    auto logits = s.prefill(one.ids, *delta);
    for (int i = 0; i < 6; ++i) {
      const std::int32_t token = model::greedy{}(logits);
      one.ids.push_back(token);
      logits = s.forward(token, *delta);
    }
    samples.push_back(one);
  }
  return samples;
}

}  // namespace

TEST_CASE("the loss of completions is that of their tokens alone", "[engine]") {
  const auto weights = test::tiny_weights(1);
  search_session s(weights, 0, 2);
  const engine::encoded_sample one{{1, 50, 51, 70, 71, 2}, 3};
  const auto loss = engine::completion_loss(s, one);
  CHECK(loss.tokens == 3);
  double expected = 0;
  search_session by_hand(weights);
  for (std::size_t i = 0; i + 1 < one.ids.size(); ++i) {
    const auto logits = by_hand.forward(one.ids[i]);
    simd::scalar::softmax(logits.data(), logits.size());
    if (i >= 2) expected -= std::log(double{logits[static_cast<std::size_t>(one.ids[i + 1])]});
  }
  CHECK(loss.nats == Approx(expected).epsilon(1e-5));
  CHECK(loss.mean() == Approx(expected / 3).epsilon(1e-5));
  CHECK(engine::completion_loss(s, engine::encoded_sample{{1, 4}, 2}).tokens == 0);
  CHECK(engine::completion_loss(s, engine::encoded_sample{{1}, 1}).mean() == 0);
  CHECK(s.position() == 0);
}

TEST_CASE("the search finds the adapter that the samples came from", "[engine]") {
  const auto weights = test::tiny_weights(1);
  const auto pool = test::tiny_pool(weights);
  const auto samples = samples_of(weights, pool.extract(1));
  const std::vector<float> start(3, 1.0F / 3);
  match::search_options o;
  o.evaluations = 160;
  const auto found = engine::few_shot_search<simd::scalar, blend::concat>(
      weights, pool, samples, std::span<const float>(start), o);
  REQUIRE(found);
  INFO("weights " << found->weights[0] << " " << found->weights[1] << " " << found->weights[2]);
  CHECK(found->loss < 0.7 * found->start_loss);
  CHECK(found->weights[1] > 0.5F);
  CHECK(found->weights[1] > 2 * std::abs(found->weights[0]));
  CHECK(found->weights[1] > 2 * std::abs(found->weights[2]));
  CHECK(found->evaluations <= 160);

  // The loss that it reports is that of the blend.
  search_session s(weights);
  const auto blended = blend::concat::blend(pool, blend::slots_of(found->weights));
  const auto delta = search_delta::bind(weights.config(), *blended);
  CHECK(
      engine::completion_loss(s, std::span<const engine::encoded_sample>(samples), *delta).mean() ==
      Approx(found->loss));
}

TEST_CASE("a search that cannot begin says why", "[engine]") {
  const auto weights = test::tiny_weights(1, 8);
  const auto pool = test::tiny_pool(weights);
  const std::vector<float> start(3, 1.0F / 3);
  const auto refusal = [&](std::vector<engine::encoded_sample> samples, std::size_t n) {
    const auto made = engine::few_shot_search<simd::scalar, blend::concat>(
        weights, pool, std::span<const engine::encoded_sample>(samples), std::span(start).first(n));
    return made ? std::string() : made.error().text;
  };
  CHECK(refusal({{{1, 5, 6}, 2}}, 2) == "2 weights to start from, the pool has 3 adapters");
  CHECK(refusal({}, 3) == "no sample with a completion to search by");
  CHECK(refusal({{{1, 5, 6}, 3}}, 3) == "no sample with a completion to search by");
  CHECK(refusal({{{1, 5, 6, 7, 8, 9, 10, 11, 12}, 3}}, 3) ==
        "a sample of 9 tokens, the model's context is 8");
  CHECK(refusal({{{1, 5, 999}, 2}}, 3) ==
        "sample 0: token 2: id 999 is outside the vocabulary of 259");
}
