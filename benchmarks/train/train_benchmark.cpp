// SPDX-License-Identifier: MIT
// Tokens per second of whole gradients, and the parts of one that are not products with weights.
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/gradient.hpp>
#include <crayon/train/initialise.hpp>

using namespace crayon;
using backend = simd::highway_dynamic;

namespace {

const model::llama_config small{.dim = 128,
                                .hidden = 352,
                                .layers = 5,
                                .heads = 4,
                                .kv_heads = 2,
                                .head_dim = 32,
                                .vocab = 512,
                                .context = 64};
const model::llama_config large{.dim = 256,
                                .hidden = 704,
                                .layers = 5,
                                .heads = 8,
                                .kv_heads = 4,
                                .head_dim = 32,
                                .vocab = 512,
                                .context = 64};

/// 64 sequences of 32 rows, 13 of them scored. One gradient of all weights, or of `adapters`
/// adapters of rank 4 at all sites.
void gradient(benchmark::State& state, const model::llama_config& config, std::size_t adapters) {
  rng random(1);
  const auto weights = train::initial_weights(config, random);
  train::packed_batch batch;
  for (int s = 0; s < 64; ++s) {
    std::vector<std::int32_t> tokens(33);
    for (auto& t : tokens) t = static_cast<std::int32_t>(random.below(config.vocab));
    batch.add(tokens, 20);
  }
  using model::projection;
  constexpr std::array sites{projection::q,    projection::k,  projection::v,   projection::o,
                             projection::gate, projection::up, projection::down};
  std::vector<adapter::lora_adapter<float>> pool;
  for (std::size_t i = 0; i < adapters; ++i) {
    pool.push_back(train::initial_adapter(train::lora_shapes(config, 4, 8, sites), random));
  }
  train::lora_factors factors;
  if (adapters > 0) factors = *train::lora_factors::from(config, pool);
  const std::vector<float> gates(batch.sequences() * adapters, 1.0F);
  thread_pool threads(static_cast<std::size_t>(state.range(0)));
  train::batch_gradient<backend> compute(
      weights, adapters > 0 ? &factors : nullptr,
      adapters > 0 ? train::trainable::factors : train::trainable::weights, {},
      threads.concurrency());
  const matrix_view<const float> w(gates.data(), batch.sequences(), adapters);
  for (auto _ : state) benchmark::DoNotOptimize(compute.compute(batch, w, threads));
  const auto rows = static_cast<double>(batch.rows());
  const auto parameters = static_cast<double>(config.parameters());
  state.counters["tokens/s"] =
      benchmark::Counter(rows, benchmark::Counter::kIsIterationInvariantRate);
  // Two per weight forward and two or four backward, adapters and attention not counted.
  state.counters["flop/s"] = benchmark::Counter((adapters > 0 ? 4 : 6) * rows * parameters,
                                                benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(std::string(backend::name()));
}

/// One gradient of an adapter of rank 8 at all sites of a model with stories15M's shape, stored as
/// E: 8 sequences of 128 rows, all scored. recompute: activations of one layer at a time. bf16:
/// activations that wait are rounded.
template <element E>
void frozen(benchmark::State& state) {
  const model::llama_config config{.dim = 288,
                                   .hidden = 768,
                                   .layers = 6,
                                   .heads = 6,
                                   .kv_heads = 6,
                                   .head_dim = 48,
                                   .vocab = 32000,
                                   .context = 128};
  rng random(1);
  model::llama_weights<E> weights(config);
  for (auto& w : weights.matrices()) w = from_float<E>(0.02F * random.normal());
  using model::projection;
  constexpr std::array sites{projection::q,    projection::k,  projection::v,   projection::o,
                             projection::gate, projection::up, projection::down};
  auto factors = *train::lora_factors::from(
      config,
      std::vector{train::initial_adapter(train::lora_shapes(config, 8, 16, sites), random)});
  train::packed_batch batch;
  for (int s = 0; s < 8; ++s) {
    std::vector<std::int32_t> tokens(129);
    for (auto& t : tokens) t = static_cast<std::int32_t>(random.below(config.vocab));
    batch.add(tokens, 1);
  }
  const std::vector<float> ones(batch.sequences(), 1.0F);
  thread_pool threads(2);
  train::batch_gradient<backend> compute(
      weights, &factors, train::trainable::factors,
      {.recompute = state.range(0) != 0,
       .activations =
           state.range(2) != 0 ? train::activation_type::bf16 : train::activation_type::f32},
      threads.concurrency());
  compute.drop({static_cast<float>(state.range(1)) / 100, 1});
  const matrix_view<const float> w(ones.data(), ones.size(), 1);
  for (auto _ : state) benchmark::DoNotOptimize(compute.compute(batch, w, threads));
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(batch.rows()),
                                                  benchmark::Counter::kIsIterationInvariantRate);
  state.counters["MB"] = static_cast<double>(compute.bytes()) * 1e-6;
  state.SetLabel(std::string(backend::name()));
}

/// Forward and backward of one sequence of 128 with 12 heads of 64.
void attention(benchmark::State& state) {
  const train::attention_shape shape{12, 12, 64};
  constexpr std::size_t n = 128, width = 12 * 64;
  rng random(1);
  std::array<aligned_vector<float>, 9> m;
  for (auto& x : m) {
    x.resize(n * width);
    for (float& v : x) v = random.normal();
  }
  aligned_vector<float> probabilities(12 * n * n), scratch(train::attention_block * n);
  const auto in = [&](std::size_t i) { return matrix_view<const float>(m[i].data(), n, width); };
  const auto out = [&](std::size_t i) { return matrix_view<float>(m[i].data(), n, width); };
  for (auto _ : state) {
    train::attention_forward<backend>(shape, in(0), in(1), in(2), probabilities.data(), out(3));
    train::attention_backward<backend>(shape, in(0), in(1), in(2), probabilities.data(), in(4),
                                       out(5), out(6), out(7), scratch.data());
    benchmark::ClobberMemory();
  }
  state.SetLabel(std::string(backend::name()));
}

/// Loss and gradient of 64 rows of logits, the copy that restores them included.
void cross_entropy(benchmark::State& state) {
  constexpr std::size_t rows = 64;
  const auto vocab = static_cast<std::size_t>(state.range(0));
  rng random(1);
  aligned_vector<float> logits(rows * vocab), work;
  for (float& v : logits) v = random.normal();
  std::vector<std::int32_t> targets(rows);
  for (auto& t : targets) t = static_cast<std::int32_t>(random.below(vocab));
  for (auto _ : state) {
    work = logits;
    benchmark::DoNotOptimize(
        train::cross_entropy<backend>(matrix_view<float>(work.data(), rows, vocab), targets, 1));
  }
  state.counters["bytes/s"] = benchmark::Counter(static_cast<double>(logits.size() * sizeof(float)),
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

/// The mask of one row, drawn and applied.
void dropout(benchmark::State& state) {
  std::vector<float> x(2048, 1.0F), y(x.size());
  const train::adapter_dropout mask{0.1F, 3};
  std::size_t row = 0;
  for (auto _ : state) {
    mask.apply<false>(1, row++, x.data(), y.data(), x.size());
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["elements/s"] = benchmark::Counter(static_cast<double>(x.size()),
                                                    benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace

BENCHMARK(frozen<float>)
    ->Name("adapter_15M/f32")
    ->ArgNames({"recompute", "dropout", "bf16"})
    ->Args({0, 0, 0})
    ->Args({1, 0, 0})
    ->Args({0, 0, 1})
    ->Args({1, 0, 1})
    ->Args({0, 10, 0})
    ->UseRealTime();
BENCHMARK(frozen<bf16>)
    ->Name("adapter_15M/bf16")
    ->ArgNames({"recompute", "dropout", "bf16"})
    ->Args({0, 0, 0})
    ->UseRealTime();
BENCHMARK(frozen<f16>)
    ->Name("adapter_15M/f16")
    ->ArgNames({"recompute", "dropout", "bf16"})
    ->Args({0, 0, 0})
    ->UseRealTime();
BENCHMARK(attention);
BENCHMARK(cross_entropy)->Arg(512)->Arg(32000);
BENCHMARK(dropout);
BENCHMARK_CAPTURE(gradient, all_weights_1M, small, 0)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(gradient, all_weights_4M, large, 0)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(gradient, one_adapter_1M, small, 1)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(gradient, pool_of_8_1M, small, 8)->Arg(1)->Arg(2)->UseRealTime();
