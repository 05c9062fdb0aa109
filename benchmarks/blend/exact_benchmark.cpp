// SPDX-License-Identifier: MIT
// The exact blends of 8 adapters of rank 8 on all projections of Llama-3.2-1B: concat from a pool
// and from adapters that lie apart, and a view of those. Beside them, in turns, std::memcpy of as
// many bytes as concat reads. The time is concat's; "percent" is the median of its ratio to memcpy.
#include <crayon/blend/activations.hpp>
#include <crayon/blend/concat.hpp>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "shapes.hpp"

using namespace crayon_benchmark;

namespace {

constexpr std::size_t count = 8, rank = 8;

template <element E>
adapter::adapter_set<E> set_of() {
  std::vector<adapter::lora_adapter<E>> adapters;
  for (std::size_t k = 0; k < count; ++k) {
    adapters.emplace_back(sites_of(llama_1b, rank));
    for (std::size_t i = 0; i < adapters[k].size(); ++i) {
      for (auto m : {adapters[k].a(i), adapters[k].b(i)}) fill(std::span(m.data, m.size()));
    }
  }
  return *adapter::adapter_set<E>::build(std::move(adapters));
}

template <class B, class Source>
void concat(benchmark::State& state, const Source& source) {
  using E = typename Source::element_type;
  const auto slots = weights_of(count);
  const auto thread_count = static_cast<std::size_t>(state.range(0));
  thread_pool threads(thread_count);
  adapter::lora_adapter<E> out(blend::concat::shapes(source, slots));
  const std::size_t bytes = out.bytes();
  const aligned_vector<char> from(bytes, 'a');
  aligned_vector<char> to(bytes, 'b');
  std::vector<double> blends, ratios;
  for (auto _ : state) {
    const double start = now(thread_count);
    threads.parallel_for(thread_count, [&](std::size_t part) {
      const auto [first, last] = part_of(bytes, part, thread_count, 4096);
      std::memcpy(to.data() + first, from.data() + first, last - first);
    });
    benchmark::ClobberMemory();
    const double copied = now(thread_count);
    if (!blend::basic_concat<B>::blend_into(source, slots, out, threads)) {
      state.SkipWithError("refused");
    }
    benchmark::ClobberMemory();
    blends.push_back(now(thread_count) - copied);
    ratios.push_back((copied - start) / blends.back());
    state.SetIterationTime(blends.back());
  }
  state.counters["ms"] = 1e3 * median(blends);
  state.counters["GB/s"] = 2 * static_cast<double>(bytes) / median(blends) / 1e9;
  state.counters["percent"] = 100 * median(ratios);
  state.SetLabel(std::string(B::name()));
}

template <class B, element E>
void from_pool(benchmark::State& state) {
  concat<B>(state, pool_of<E>(sites_of(llama_1b, rank), count));
}
template <class B, element E>
void from_set(benchmark::State& state) {
  concat<B>(state, set_of<E>());
}

void view(benchmark::State& state) {
  const auto set = set_of<bf16>();
  const auto slots = weights_of(count);
  for (auto _ : state) benchmark::DoNotOptimize(blend::activations::view(set, slots));
}

#define CRAYON_EXACT(function, backend, element)                       \
  BENCHMARK(function<simd::backend, element>)                          \
      ->Name("concat/" #function "/" #element "/" #backend "/threads") \
      ->Arg(1)                                                         \
      ->Arg(2)                                                         \
      ->UseManualTime()                                                \
      ->Unit(benchmark::kMillisecond)
CRAYON_EXACT(from_pool, highway_dynamic, bf16);
CRAYON_EXACT(from_pool, highway_dynamic, float);
CRAYON_EXACT(from_pool, scalar, bf16);
CRAYON_EXACT(from_pool, scalar, float);
CRAYON_EXACT(from_set, highway_dynamic, bf16);
#undef CRAYON_EXACT
BENCHMARK(view)->Name("activations/view/bf16")->Unit(benchmark::kMicrosecond);

}  // namespace
