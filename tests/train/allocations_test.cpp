// SPDX-License-Identifier: MIT
#include <crayon/train/pretrain.hpp>

#include <array>
#include <vector>

#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/initialise.hpp>

#include "../catch.hpp"
#include "../model/allocations.hpp"
#include "tiny.hpp"

using namespace crayon;

TEST_CASE("a training step allocates nothing after the first", "[train]") {
  rng random(1);
  const auto weights = train::initial_weights(test::tiny_model, random);
  using model::projection;
  constexpr std::array every_site{projection::q,    projection::k,  projection::v,   projection::o,
                                  projection::gate, projection::up, projection::down};
  auto adapter =
      train::initial_adapter(train::lora_shapes(test::tiny_model, 2, 4, every_site), random);
  std::vector<std::int32_t> tokens(12);
  for (auto& t : tokens) t = static_cast<std::int32_t>(random.below(test::tiny_model.vocab));
  thread_pool threads(2);
  for (const int kept : {0, 1, 2, 3}) {
    train::training_options<> options;
    options.steps = 6;
    options.spread = {.shards = 2, .rows = 20, .recompute = kept % 2 == 1};
    if (kept >= 2) options.spread.activations = train::activation_type::bf16;
    options.accumulate = 2;
    options.dropout = {0.1F, 5};
    std::vector<std::size_t> counts;
    counts.reserve(options.steps);
    const auto done = train::train_adapter<simd::highway_dynamic>(
        weights, adapter, options,
        [&](std::size_t number, train::packed_batch& batch) {
          // The first step has the largest batches.
          for (std::size_t s = 0; s < (number < 2 ? 6U : 5U); ++s) batch.add(tokens, 4);
        },
        threads, [&](const train::training_progress&) { counts.push_back(allocations()); });
    REQUIRE(done);
    REQUIRE(counts.size() == 6);
    for (const std::size_t count : counts) CHECK(count == counts[0]);
    CHECK(done->bytes > 0);
    CHECK(done->rows == 11 * (2 * 6 + 10 * 5));
  }
}
