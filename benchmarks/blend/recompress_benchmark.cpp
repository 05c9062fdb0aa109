// SPDX-License-Identifier: MIT
// The best blend of rank 8 of 8 adapters of rank 8 on all seven projections of the 16 layers of
// Llama 3.2 1B, bf16, with the R factors kept: taking turns with the linear blend of the same pool;
// the small core by itself, and what the R factors cost once.
#include <crayon/blend/recompress.hpp>

#include <crayon/blend/cores.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <string>
#include <vector>

#include "shapes.hpp"

namespace {

using namespace crayon_benchmark;
using best = simd::highway_dynamic;

constexpr std::size_t adapters_in_pool = 8, rank_of_each = 8;

const adapter::pool<bf16>& llama_pool() {
  static const auto made = pool_of<bf16>(sites_of(llama_1b, rank_of_each), adapters_in_pool);
  return made;
}

const adapter::pool_cores& llama_cores() {
  static const adapter::pool_cores made = *blend::compute_cores(llama_pool());
  return made;
}

/// In turns, so that both meet the same machine; the time is recompress's, the counters say the
/// medians of both and their ratio.
void beside_linear(benchmark::State& state) {
  const auto& pool = llama_pool();
  const auto& cores = llama_cores();
  const auto slots = weights_of(adapters_in_pool);
  const auto rank = static_cast<std::size_t>(state.range(0));
  const auto thread_count = static_cast<std::size_t>(state.range(1));
  adapter::lora_adapter<bf16> out(blend::recompress<best>::shapes(pool, slots, rank));
  adapter::lora_adapter<bf16> mean(pool.shapes());
  blend::recompress<best>::workspace<bf16> work;
  thread_pool threads(thread_count);
  std::vector<double> ours, linear;
  for (auto _ : state) {
    const double start = now(thread_count);
    const auto made = blend::recompress<best>::blend_into(pool, slots, cores, out, work, threads);
    const double middle = now(thread_count);
    const auto averaged = blend::linear<best>::blend_into(pool, slots, mean, threads);
    linear.push_back(now(thread_count) - middle);
    ours.push_back(middle - start);
    state.SetIterationTime(ours.back());
    if (!made || !averaged) state.SkipWithError("refused");
  }
  state.SetLabel(std::string(best::name()));
  state.counters["ms"] = 1e3 * median(ours);
  state.counters["linear_ms"] = 1e3 * median(linear);
  state.counters["ratio"] = median(ours) / median(linear);
}

/// K of one site and its leading triplets, without the pass over the factors.
void core_of_site(benchmark::State& state) {
  const auto& cores = llama_cores();
  const auto weights = weights_of(adapters_in_pool);
  blend::site_core<best> core;
  std::vector<blend::site_core<best>::part> parts;
  for (const auto& [slot, weight] : weights) {
    parts.push_back({slot * rank_of_each, rank_of_each, 2 * weight});
  }
  const std::size_t columns = adapters_in_pool * rank_of_each;
  std::vector<float> m_b(rank_of_each * columns), m_a(rank_of_each * columns);
  std::size_t i = 0;
  for (auto _ : state) {
    if (!core.load(cores.sites()[i++ % cores.size()], parts)) state.SkipWithError("refused");
    core.leading({m_b.data(), rank_of_each, columns}, {m_a.data(), rank_of_each, columns});
    benchmark::DoNotOptimize(m_a.data());
  }
  state.SetLabel(std::string(best::name()) + ", one site");
}

void r_factors(benchmark::State& state) {
  const auto& pool = llama_pool();
  thread_pool threads(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(blend::compute_cores(pool, threads));
  state.SetLabel("once per pool");
}

BENCHMARK(beside_linear)
    ->Name("recompress/bf16/rank/threads")
    ->Args({8, 1})
    ->Args({8, 2})
    ->Args({16, 1})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(core_of_site)->Name("recompress/core")->Unit(benchmark::kMicrosecond);
BENCHMARK(r_factors)
    ->Name("recompress/R factors/threads")
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
