// SPDX-License-Identifier: MIT
// Tokens per second of whole training steps: 64 sequences of 32 rows, 13 of them scored.
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

/// One gradient of all weights, or of `adapters` adapters of rank 4 at all sites.
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

}  // namespace

BENCHMARK_CAPTURE(gradient, all_weights_1M, small, 0)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(gradient, all_weights_4M, large, 0)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(gradient, one_adapter_1M, small, 1)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(gradient, pool_of_8_1M, small, 8)->Arg(1)->Arg(2)->UseRealTime();
