// SPDX-License-Identifier: MIT
// From weights to an adapter in use by a model, beyond the blend itself: what an update costs more
// than blending into an adapter that lies there, in turns; and what a reader pays for its pin.
#include <crayon/engine/hot_swap.hpp>

#include <crayon/blend/linear.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "../blend/shapes.hpp"

using namespace crayon_benchmark;

namespace {

using backend = simd::highway_dynamic;
using live_type = engine::hot_swap<backend, bf16>;

model::llama_config config() {
  model::llama_config c;
  c.dim = llama_1b.dim;
  c.hidden = llama_1b.hidden;
  c.layers = llama_1b.layers;
  c.head_dim = 64;
  c.heads = llama_1b.dim / c.head_dim;
  c.kv_heads = llama_1b.kv / c.head_dim;
  return c;
}

/// 8 adapters of rank 8 on all projections of Llama-3.2-1B. The time is that of the update.
void update(benchmark::State& state) {
  const auto pool = pool_of<bf16>(sites_of(llama_1b, 8), 8);
  const auto slots = weights_of(8);
  const auto live = *live_type::make(config(), adapter::lora_adapter<bf16>(pool.shapes()));
  adapter::lora_adapter<bf16> apart(pool.shapes());
  const std::size_t thread_count = static_cast<std::size_t>(state.range(0));
  thread_pool threads(thread_count);
  std::vector<double> blends, updates, beyond;
  const auto blend = [&](auto& idle) {
    return blend::linear<backend>::blend_into(pool, slots, idle, threads);
  };
  for (auto _ : state) {
    const double start = now(thread_count);
    bool done = bool(blend(apart));
    const double blended = now(thread_count);
    done = bool(live->update(blend)) && done;
    benchmark::DoNotOptimize(&*live->pin());  // in use
    const double updated = now(thread_count);
    if (!done) state.SkipWithError("refused");
    blends.push_back(blended - start);
    updates.push_back(updated - blended);
    beyond.push_back(updates.back() - blends.back());
    state.SetIterationTime(updates.back());
  }
  state.counters["blend ms"] = 1e3 * median(blends);
  state.counters["update ms"] = 1e3 * median(updates);
  state.counters["beyond us"] = 1e6 * median(beyond);
}

/// The same without a blend: all that a swap is.
void publish(benchmark::State& state) {
  const auto live = *live_type::make(config(), adapter::lora_adapter<bf16>(sites_of(llama_1b, 8)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(live->update([](auto&) -> result<void> { return {}; }));
  }
}

void pin(benchmark::State& state) {
  const auto live = *live_type::make(config(), adapter::lora_adapter<bf16>(sites_of(llama_1b, 8)));
  for (auto _ : state) benchmark::DoNotOptimize(&*live->pin());
}

BENCHMARK(update)
    ->Name("hot_swap/update/threads")
    ->Arg(1)
    ->Arg(2)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(publish)->Name("hot_swap/publish");
BENCHMARK(pin)->Name("hot_swap/pin");

}  // namespace
