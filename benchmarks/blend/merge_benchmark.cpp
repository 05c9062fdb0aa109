// SPDX-License-Identifier: MIT
// Merging a blend into two layers of Llama-3.2-1B, for each element of the base, beside a loop that
// only reads and writes the same weights. Bytes are those of the weights, read and written.
#include <benchmark/benchmark.h>

#include <span>
#include <string>
#include <vector>

#include <crayon/adapter/base_matrix.hpp>
#include <crayon/blend/merge.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/scalar.hpp>

#include "shapes.hpp"

using namespace crayon;
using namespace crayon_benchmark;

namespace {

template <class E>
struct merge_base {
  aligned_vector<E> memory;
  std::vector<adapter::base_matrix<E>> matrices;

  explicit merge_base(const std::vector<adapter::site_shape>& sites) {
    std::size_t count = 0;
    for (const auto& s : sites) count += s.out * s.in;
    memory.resize(count);
    fill(std::span<E>(memory));
    E* at = memory.data();
    for (const auto& s : sites) {
      matrices.push_back({s.module, {at, s.out, s.in}});
      at += s.out * s.in;
    }
  }
};

std::vector<adapter::site_shape> two_layers(std::size_t rank) {
  auto sites = sites_of(llama_1b, rank);
  sites.resize(14);
  return sites;
}

/// range: adapters of rank 8, threads. `Keep`: with the originals, and back again.
template <class B, class E, class F, bool Keep>
void merge_blend(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto pool = pool_of<F>(two_layers(8), count);
  merge_base<E> base(pool.shapes());
  const auto weights = weights_of(count);
  const std::span<const adapter::base_matrix<E>> matrices(base.matrices);
  thread_pool threads(static_cast<std::size_t>(state.range(1)));
  for (auto _ : state) {
    if constexpr (Keep) {
      auto merged = blend::merge<B>::blend(pool, weights, matrices, threads);
      if (!merged) state.SkipWithError(merged.error().text.c_str());
      if (merged) merged->restore();
    } else {
      const auto added = blend::merge<B>::add(pool, weights, matrices, threads);
      if (!added) state.SkipWithError(added.error().text.c_str());
    }
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(2 * base.memory.size() * sizeof(E)));
  state.SetLabel(std::string(B::name()));
}

/// The line: the same weights read and written, by one thread.
template <class E>
void read_and_write(benchmark::State& state) {
  merge_base<E> base(two_layers(1));
  auto* words = reinterpret_cast<std::uint32_t*>(base.memory.data());
  const std::size_t count = base.memory.size() * sizeof(E) / sizeof(std::uint32_t);
  for (auto _ : state) {
    for (std::size_t i = 0; i < count; ++i) words[i] ^= 1U;
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(2 * base.memory.size() * sizeof(E)));
}

using fast = simd::highway_static;

}  // namespace

BENCHMARK(read_and_write<float>)->Unit(benchmark::kMillisecond);
BENCHMARK(read_and_write<bf16>)->Unit(benchmark::kMillisecond);
BENCHMARK((merge_blend<fast, float, float, false>))
    ->ArgsProduct({{1, 8}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK((merge_blend<fast, bf16, float, false>))
    ->ArgsProduct({{1, 8}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK((merge_blend<fast, f16, float, false>))
    ->ArgsProduct({{1, 8}, {1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK((merge_blend<fast, bf16, bf16, true>))
    ->ArgsProduct({{1, 8}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
