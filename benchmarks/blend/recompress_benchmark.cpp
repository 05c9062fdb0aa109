// SPDX-License-Identifier: MIT
// The best blend of 8 adapters of rank 8 or 16 on all seven projections of the 16 layers of
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

/// 8 adapters of a rank, and their R factors.
struct llama_pool {
  adapter::pool<bf16> pool;
  adapter::pool_cores cores;

  explicit llama_pool(std::size_t rank)
      : pool(pool_of<bf16>(sites_of(llama_1b, rank), 8)), cores(*blend::compute_cores(pool)) {}
};

const llama_pool& pool_of_rank(std::size_t rank) {
  static const llama_pool of_8(8), of_16(16);
  return rank == 8 ? of_8 : of_16;
}

/// In turns, so that both meet the same machine; the time is recompress's, the counters say the
/// medians of both and their ratio. range: rank of the adapters, of the result, threads.
void beside_linear(benchmark::State& state) {
  const auto& [pool, cores] = pool_of_rank(static_cast<std::size_t>(state.range(0)));
  const auto slots = weights_of(pool.size());
  const auto rank = static_cast<std::size_t>(state.range(1));
  const auto thread_count = static_cast<std::size_t>(state.range(2));
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

/// K of one site and its leading triplets, or (`All`) all its singular values, without the pass
/// over the factors. range: adapters, rank of each.
template <bool All>
void core_of_site(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto rank = static_cast<std::size_t>(state.range(1));
  const auto pool = pool_of<bf16>({{"q", 2048, 2048, rank, 2.0F}}, count);
  const auto cores = *blend::compute_cores(pool);
  blend::site_core<best> core;
  std::vector<blend::site_core<best>::part> parts;
  for (const auto& [slot, weight] : weights_of(count)) {
    parts.push_back({slot * rank, rank, 2 * weight});
  }
  const std::size_t columns = count * rank;
  std::vector<float> m_b(rank * columns), m_a(rank * columns);
  std::vector<double> sigma(columns);
  for (auto _ : state) {
    if (!core.load(cores.sites()[0], parts)) state.SkipWithError("refused");
    if constexpr (All) {
      core.singular_values(sigma);
    } else {
      core.leading({m_b.data(), rank, columns}, {m_a.data(), rank, columns});
    }
    benchmark::DoNotOptimize(m_a.data());
    benchmark::DoNotOptimize(sigma.data());
  }
  state.SetLabel(std::string(best::name()) + ", one site");
}

void r_factors(benchmark::State& state) {
  const auto& pool = pool_of_rank(8).pool;
  thread_pool threads(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(blend::compute_cores(pool, threads));
  state.SetLabel("once per pool");
}

BENCHMARK(beside_linear)
    ->Name("recompress/bf16/rank of each/rank/threads")
    ->Args({8, 8, 1})
    ->Args({8, 8, 2})
    ->Args({16, 16, 1})
    ->Args({16, 16, 2})
    ->Args({8, 16, 1})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(core_of_site<true>)
    ->Name("recompress/all singular values/adapters/rank of each")
    ->Args({8, 8})
    ->Args({64, 8})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(core_of_site<false>)
    ->Name("recompress/core/adapters/rank of each")
    ->Args({8, 8})
    ->Args({8, 16})
    ->Args({64, 8})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(r_factors)
    ->Name("recompress/R factors/threads")
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
