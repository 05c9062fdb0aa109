// SPDX-License-Identifier: MIT
// What stands between embedded samples and a blend (index of N adapters, width of an error_pooling
// of Llama-3.2-1B), and arrow's prototypes, once per pool.
#include <crayon/match/arrow.hpp>

#include <crayon/core/rng.hpp>
#include <crayon/match/centroid.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/top_k.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <span>
#include <vector>

using namespace crayon;

namespace {

std::vector<float> unit_rows(std::size_t rows, std::size_t width, std::uint64_t seed) {
  std::vector<float> all(rows * width);
  rng random(seed);
  for (float& x : all) x = random.normal();
  for (std::size_t r = 0; r < rows; ++r) {
    match::normalise(std::span(all).subspan(r * width, width));
  }
  return all;
}

/// range(0) adapters, 8 samples.
template <class Matcher>
void weights(benchmark::State& state) {
  const auto n = static_cast<std::size_t>(state.range(0));
  constexpr std::size_t width = 3 * 2048, samples = 8;
  const auto index = unit_rows(n, width, 1), own = unit_rows(samples, width, 2);
  const Matcher matcher{};
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        matcher.weights({index.data(), n, width}, {own.data(), samples, width}));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(index.size() * 4));
}
BENCHMARK_TEMPLATE(weights, match::cosine_softmax)->Arg(8)->Arg(64)->Unit(benchmark::kMillisecond);
BENCHMARK_TEMPLATE(weights, match::top_k)->Arg(64)->Unit(benchmark::kMillisecond);
BENCHMARK_TEMPLATE(weights, match::centroid)->Arg(64)->Unit(benchmark::kMillisecond);

/// One adapter of rank range(1) at a site (range(0), range(0)).
void arrow_prototype(benchmark::State& state) {
  const auto side = static_cast<std::size_t>(state.range(0));
  const auto rank = static_cast<std::size_t>(state.range(1));
  const auto a = unit_rows(rank, side, 3), b = unit_rows(side, rank, 4);
  std::vector<float> prototype(side);
  for (auto _ : state) {
    match::arrow_prototype<float>({a.data(), rank, side}, {b.data(), side, rank}, prototype);
    benchmark::DoNotOptimize(prototype.data());
  }
}
BENCHMARK(arrow_prototype)
    ->Args({2048, 8})
    ->Args({2048, 16})
    ->Args({4096, 16})
    ->Unit(benchmark::kMicrosecond);

/// One token at one site: a choice among range(0) adapters.
void arrow_coefficients(benchmark::State& state) {
  const auto n = static_cast<std::size_t>(state.range(0));
  constexpr std::size_t in = 2048;
  const auto prototypes = unit_rows(n, in, 5), x = unit_rows(1, in, 6);
  std::vector<float> c(n);
  const match::arrow routing;
  for (auto _ : state) {
    routing.coefficients({prototypes.data(), n, in}, x.data(), c.data());
    benchmark::DoNotOptimize(c.data());
  }
}
BENCHMARK(arrow_coefficients)->Arg(8)->Arg(64)->Unit(benchmark::kMicrosecond);

}  // namespace
