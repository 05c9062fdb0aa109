// SPDX-License-Identifier: MIT
// The sparse policies on small cores and on aligned bases (KnOTS): 8 adapters of rank 8 on all
// seven projections of the 16 layers of Llama 3.2 1B, bf16, with the R factors kept, taking turns
// with the best blend of the same rank.
#include <crayon/blend/ties.hpp>

#include <crayon/blend/cores.hpp>
#include <crayon/blend/dare.hpp>
#include <crayon/blend/recompress.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <string>
#include <vector>

#include "shapes.hpp"

namespace {

using namespace crayon_benchmark;
using kernels = simd::highway_dynamic;

struct sparse_pool {
  adapter::pool<bf16> pool = pool_of<bf16>(sites_of(llama_1b, 8), 8);
  adapter::pool_cores cores = *blend::compute_cores(pool);
};

/// range: threads. The time is the policy's; the counters say the medians of both and their ratio.
template <class Policy>
void beside_recompress(benchmark::State& state) {
  static const sparse_pool made;
  const auto slots = weights_of(made.pool.size());
  const auto thread_count = static_cast<std::size_t>(state.range(0));
  adapter::lora_adapter<bf16> out(Policy::shapes(made.pool, slots)), best(out.shapes());
  blend::recompress<kernels>::workspace<bf16> work;
  blend::sparse_options options;
  options.density = 0.5;
  options.cores = made.cores;
  thread_pool threads(thread_count);
  std::vector<double> ours, recompressed;
  for (auto _ : state) {
    const double start = now(thread_count);
    const auto blended = Policy::blend_into(made.pool, slots, out, options, threads);
    const double middle = now(thread_count);
    const auto whole =
        blend::recompress<kernels>::blend_into(made.pool, slots, made.cores, best, work, threads);
    recompressed.push_back(now(thread_count) - middle);
    ours.push_back(middle - start);
    state.SetIterationTime(ours.back());
    if (!blended || !whole) state.SkipWithError("refused");
  }
  state.SetLabel(std::string(kernels::name()));
  state.counters["ms"] = 1e3 * median(ours);
  state.counters["recompress_ms"] = 1e3 * median(recompressed);
  state.counters["ratio"] = median(ours) / median(recompressed);
}

using blend::domain;

BENCHMARK(beside_recompress<blend::ties<domain::core, kernels>>)
    ->Name("ties/bf16/threads")
    ->Arg(1)
    ->Arg(2)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(beside_recompress<blend::dare<domain::core, kernels>>)
    ->Name("dare/bf16/threads")
    ->Arg(1)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(beside_recompress<blend::ties<domain::aligned, kernels>>)
    ->Name("knots_ties/bf16/threads")
    ->Arg(1)
    ->Arg(2)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
