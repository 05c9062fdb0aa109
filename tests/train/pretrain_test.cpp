// SPDX-License-Identifier: MIT
#include <crayon/train/pretrain.hpp>

#include <array>
#include <limits>
#include <string>
#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/initialise.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

using namespace crayon;
using backend = simd::highway_dynamic;

namespace {

/// Counting up by `stride` from a random start.
struct counting {
  std::int32_t stride;

  void operator()(std::size_t step, train::packed_batch& batch) const {
    rng random(step);
    for (int i = 0; i < 16; ++i) {
      std::vector<std::int32_t> tokens{
          static_cast<std::int32_t>(random.below(test::tiny_model.vocab))};
      for (int j = 0; j < 7; ++j) {
        tokens.push_back((tokens.back() + stride) %
                         static_cast<std::int32_t>(test::tiny_model.vocab));
      }
      batch.add(tokens, 1);
    }
  }
};

train::training_options<> walk_options(std::size_t steps) {
  train::training_options<> o;
  o.steps = steps;
  o.schedule = {.peak = 1e-2F, .warm_up = 10};
  o.spread = {.shards = 2, .rows = 64};
  return o;
}

}  // namespace

TEST_CASE("pretraining learns, and an adapter then learns the opposite", "[train]") {
  rng random(1);
  auto weights = train::initial_weights(test::tiny_model, random);
  thread_pool threads(2);
  double accuracy = 0;
  const auto watch = [&](const train::training_progress& p) { accuracy = p.accuracy; };
  const auto report =
      train::pretrain<backend>(weights, walk_options(120), counting{1}, threads, watch);
  REQUIRE(report);
  CHECK(report->steps == 120);
  CHECK(report->rows == 120 * 16 * 7);
  CHECK(report->last_loss < 0.1);
  CHECK(accuracy > 0.95);

  const std::string before = weights.hash();
  using model::projection;
  constexpr std::array adapted{projection::q, projection::v, projection::o, projection::up,
                               projection::down};
  auto learned =
      train::initial_adapter(train::lora_shapes(test::tiny_model, 4, 8, adapted), random);
  const auto down = train::train_adapter<backend>(weights, learned, walk_options(150), counting{23},
                                                  threads, watch);
  REQUIRE(down);
  CHECK(accuracy > 0.9);
  CHECK(down->last_loss < 0.4);
  CHECK(weights.hash() == before);
}

TEST_CASE("the same seed and shards give the same weights on any executor", "[train]") {
  const auto run = [](auto&& tasks) {
    rng random(1);
    auto weights = train::initial_weights(test::tiny_model, random);
    REQUIRE(train::pretrain<backend>(weights, walk_options(5), counting{1}, tasks));
    return weights.hash();
  };
  const std::string serial = run(serial_executor{});
  CHECK(serial == run(thread_pool(2)));
  CHECK(serial == run(thread_pool(4)));
}

TEST_CASE("a run stops where its progress says so", "[train]") {
  rng random(1);
  auto weights = train::initial_weights(test::tiny_model, random);
  serial_executor serial;
  const auto report = train::pretrain<backend>(weights, walk_options(50), counting{1}, serial,
                                               [](const auto& p) { return p.step < 2; });
  REQUIRE(report);
  CHECK(report->steps == 3);
}

TEST_CASE("a broken run says at which step, and leaves the weights of the step before", "[train]") {
  rng random(1);
  serial_executor serial;
  auto weights = train::initial_weights(test::tiny_model, random);
  auto reference = weights;
  REQUIRE(train::pretrain<backend>(reference, walk_options(3), counting{1}, serial,
                                   [](const auto& p) { return p.step < 1; }));
  const auto bad = train::pretrain<backend>(
      weights, walk_options(3),
      [&](std::size_t step, train::packed_batch& batch) {
        if (step < 2) return counting{1}(step, batch);
        batch.add(std::vector<std::int32_t>{1, 24}, 1);
      },
      serial);
  REQUIRE(!bad);
  CHECK(bad.error().code == errc::bad_value);
  CHECK(bad.error().text ==
        "training step 2 (batch of 1 sequences, 1 rows): sequence 0 has token id 24, the "
        "vocabulary has 24");
  CHECK(weights.hash() == reference.hash());

  weights.matrices()[5] = std::numeric_limits<float>::quiet_NaN();
  const auto nan = train::pretrain<backend>(weights, walk_options(3), counting{1}, serial);
  REQUIRE(!nan);
  CHECK(nan.error().text.find("training step 0 (batch of 16 sequences, 112 rows): loss is") == 0);
}

TEST_CASE("an adapter of another model is not trained", "[train]") {
  const model::llama_weights<float> weights(test::tiny_model);
  adapter::lora_adapter<float> foreign({{"transformer.h.0.attn.c_attn", 96, 32, 2, 1.0F}});
  serial_executor serial;
  const auto report =
      train::train_adapter<backend>(weights, foreign, walk_options(1), counting{1}, serial);
  REQUIRE(!report);
  CHECK(report.error().text == "transformer.h.0.attn.c_attn: no such module in the model");
}
