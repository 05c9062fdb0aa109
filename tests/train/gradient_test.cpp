// SPDX-License-Identifier: MIT
#include <crayon/train/gradient.hpp>

#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/train/initialise.hpp>

#include "oracle.hpp"

using namespace crayon;

namespace {

/// More than one part of the reduction, long and short sequences, one beyond `rows` of the passes.
train::packed_batch mixed_batch(const model::llama_config& config) {
  rng random(8);
  train::packed_batch batch;
  for (const std::size_t length : std::vector<std::size_t>{3, 70, 9, 2, 33, 1, 20, 20}) {
    std::vector<std::int32_t> tokens(length);
    for (auto& t : tokens) t = static_cast<std::int32_t>(random.below(config.vocab));
    batch.add(tokens, length / 2);
  }
  return batch;
}

const model::llama_config gradient_model{.dim = 48,
                                         .hidden = 64,
                                         .layers = 2,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .head_dim = 12,
                                         .vocab = 60,
                                         .context = 80};

}  // namespace

TEMPLATE_TEST_CASE("the gradient has the same bytes on any executor for a number of shards",
                   "[train]", simd::scalar, simd::highway_dynamic) {
  rng random(1);
  const auto weights = train::initial_weights(gradient_model, random, 0.2F);
  const auto batch = mixed_batch(gradient_model);
  const auto run = [&](std::size_t shards, auto&& tasks) {
    train::batch_gradient<TestType> gradient(weights, nullptr, train::trainable::weights,
                                             {shards, 64}, tasks.concurrency());
    std::vector<float> all;
    for (int repeat = 0; repeat < 2; ++repeat) {  // a second batch must not see the first
      static_cast<void>(gradient.compute(batch, {}, tasks));
    }
    all.assign(gradient.matrices().begin(), gradient.matrices().end());
    all.insert(all.end(), gradient.norms().begin(), gradient.norms().end());
    all.push_back(static_cast<float>(gradient.norm()));
    return all;
  };
  const auto three = run(3, serial_executor{});
  CHECK(three == run(3, thread_pool(2)));
  CHECK(three == run(3, thread_pool(5)));
  CHECK(oracle::relative_difference(run(1, serial_executor{}), three) < 1e-5);
  CHECK(run(0, thread_pool(2)) == run(2, serial_executor{}));
  double squares = 0;
  for (std::size_t i = 0; i + 1 < three.size(); ++i) squares += double{three[i]} * double{three[i]};
  CHECK(three.back() == Approx(std::sqrt(squares)).epsilon(1e-5));
}

TEST_CASE("sequences do not see each other", "[train]") {
  rng random(1);
  const auto weights = train::initial_weights(gradient_model, random, 0.2F);
  const auto batch = mixed_batch(gradient_model);
  serial_executor serial;
  train::batch_gradient<simd::scalar> gradient(weights, nullptr, train::trainable::weights, {}, 1);
  const double together = gradient.loss(batch, {}, serial).loss;
  double apart = 0;
  for (std::size_t s = 0; s < batch.sequences(); ++s) {
    std::vector<std::int32_t> tokens;
    std::vector<std::uint8_t> mask{0};
    for (std::size_t row = batch.offsets()[s]; row < batch.offsets()[s + 1]; ++row) {
      tokens.push_back(batch.inputs()[row]);
      mask.push_back(batch.targets()[row] != train::no_target);
    }
    if (tokens.empty()) continue;
    tokens.push_back(batch.targets()[batch.offsets()[s + 1] - 1]);
    train::packed_batch one;
    one.add(tokens, mask);
    apart += gradient.loss(one, {}, serial).loss;
  }
  CHECK(together == Approx(apart).epsilon(1e-6));
}
