// SPDX-License-Identifier: MIT
#include <crayon/train/gradient.hpp>

#include <array>
#include <cmath>
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

TEST_CASE(
    "layers computed again give the same bytes, rounded ones gradients nearby, in less memory",
    "[train]") {
  auto config = gradient_model;
  config.layers = 6;
  rng random(1);
  const auto weights = train::initial_weights(config, random, 0.2F);
  const auto batch = mixed_batch(config);
  using model::projection;
  constexpr std::array every_site{projection::q,    projection::k,  projection::v,   projection::o,
                                  projection::gate, projection::up, projection::down};
  std::vector adapters(
      2, train::initial_adapter(train::lora_shapes(config, 3, 6, every_site), random));
  for (auto& a : adapters) {
    for (std::size_t s = 0; s < a.size(); ++s) {
      const auto b = a.b(s);
      for (std::size_t j = 0; j < b.size(); ++j) b.data[j] = 0.1F * random.normal();
    }
  }
  auto factors = train::lora_factors::from(config, adapters);
  REQUIRE(factors);
  const std::vector<float> w(batch.sequences() * 2, 0.5F);
  serial_executor serial;
  for (const auto what : {train::trainable::weights, train::trainable::factors}) {
    const bool adapts = what == train::trainable::factors;
    struct run {
      std::vector<float> gradient;
      double loss;
      std::size_t bytes;
    };
    const auto with = [&](bool again, train::activation_type type, std::size_t merge_rows) {
      train::batch_gradient<simd::highway_dynamic> gradient(weights, adapts ? &*factors : nullptr,
                                                            what,
                                                            {.shards = 2,
                                                             .rows = 64,
                                                             .recompute = again,
                                                             .activations = type,
                                                             .merge_rows = merge_rows},
                                                            1);
      if (merge_rows > 1) gradient.drop({adapts ? 0.2F : 0.0F, 3});
      const auto sum = gradient.compute(batch, {w.data(), batch.sequences(), 2}, serial);
      const auto got = adapts ? gradient.factors() : gradient.matrices();
      const std::size_t gradients = got.size() + gradient.norms().size();
      return run{
          {got.begin(), got.end()}, sum.loss, gradient.bytes() - 2 * sizeof(float) * gradients};
    };
    using train::activation_type;
    for (const std::size_t merge_rows : {std::size_t{512}, std::size_t{1}}) {
      const run all = with(false, activation_type::f32, merge_rows),
                again = with(true, activation_type::f32, merge_rows),
                rounded = with(false, activation_type::bf16, merge_rows),
                both = with(true, activation_type::bf16, merge_rows);
      CHECK(again.gradient == all.gradient);
      CHECK(rounded.bytes < all.bytes);
      CHECK(both.bytes < again.bytes);
      if (merge_rows > 1) {  // else panels are part of both
        CHECK(again.bytes * 2 < all.bytes);
        CHECK(rounded.bytes * 10 < all.bytes * 7);
      }
      for (const run* bf16_run : {&rounded, &both}) {
        CHECK(bf16_run->loss == all.loss);
        CHECK(bf16_run->gradient != all.gradient);
        CHECK(oracle::relative_difference(bf16_run->gradient, all.gradient) < 1e-2);
      }
    }
  }
}

TEST_CASE("batches added up give the gradient of all of them together", "[train]") {
  rng random(1);
  const auto weights = train::initial_weights(gradient_model, random, 0.2F);
  serial_executor serial;
  train::batch_gradient<simd::scalar> gradient(weights, nullptr, train::trainable::weights, {2, 64},
                                               1);
  train::packed_batch whole, parts[2];
  rng words(3);
  for (int s = 0; s < 6; ++s) {
    std::vector<std::int32_t> tokens(5 + 7 * static_cast<std::size_t>(s));
    for (auto& t : tokens) t = static_cast<std::int32_t>(words.below(gradient_model.vocab));
    whole.add(tokens, 3);
    parts[s < 4 ? 0 : 1].add(tokens, 3);  // other numbers of scored tokens
  }
  const auto together = gradient.compute(whole, {}, serial);
  const std::vector<float> expected(gradient.matrices().begin(), gradient.matrices().end());
  const double norm = gradient.norm();
  gradient.begin();
  auto sum = gradient.add(parts[0], {}, serial);
  sum += gradient.add(parts[1], {}, serial);
  gradient.finish(serial);
  CHECK(sum.loss == Approx(together.loss).epsilon(1e-6));
  CHECK(sum.correct == together.correct);
  CHECK(gradient.norm() == Approx(norm).epsilon(1e-5));
  CHECK(oracle::relative_difference(gradient.matrices(), expected) < 1e-5);
}

TEST_CASE("logits of a few rows at a time give what all of them give", "[train]") {
  const model::llama_config wide{.dim = 8,
                                 .hidden = 8,
                                 .layers = 1,
                                 .heads = 1,
                                 .kv_heads = 1,
                                 .head_dim = 8,
                                 .vocab = train::logits_at_a_time / 64,
                                 .context = 80};
  rng random(1);
  const auto weights = train::initial_weights(wide, random, 0.2F);
  train::packed_batch batch;
  for (int s = 0; s < 4; ++s) {
    std::vector<std::int32_t> tokens(27);
    for (auto& t : tokens) t = static_cast<std::int32_t>(random.below(wide.vocab));
    batch.add(tokens, 1);
  }
  const auto run = [&](std::size_t rows) {
    auto factors = train::lora_factors::from(
        wide, std::vector{train::initial_adapter(
                  train::lora_shapes(wide, 2, 2, std::array{model::projection::down}), random)});
    REQUIRE(factors);
    rng own(4);
    for (float& f : factors->values()) f = own.normal();
    const std::vector<float> ones(4, 1.0F);
    serial_executor serial;
    train::batch_gradient<simd::highway_dynamic> gradient(weights, &*factors,
                                                          train::trainable::factors, {1, rows}, 1);
    const auto sum = gradient.compute(batch, {ones.data(), 4, 1}, serial);
    std::vector<float> all(gradient.factors().begin(), gradient.factors().end());
    all.push_back(static_cast<float>(sum.loss));
    return all;
  };
  CHECK(oracle::relative_difference(run(1000), run(1)) < 1e-5);  // 64 + 40 rows, and 26 four times
}
