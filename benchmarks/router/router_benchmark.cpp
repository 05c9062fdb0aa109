// SPDX-License-Identifier: MIT
// Signals of one token: one pass of each backend beside the passes that one would write without it,
// at the vocabularies of SmolLM2 (49152) and Qwen2 (151936). Distances of a hidden state of 2048.
#include <crayon/router/logit_signals.hpp>

#include <crayon/router/index_distance.hpp>

#include <crayon/core/aligned.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

using namespace crayon;

namespace {

aligned_vector<float> logits_of(std::size_t n) {
  aligned_vector<float> all(n);
  rng random(1);
  for (float& x : all) x = 3 * random.normal();
  return all;
}

void set_rates(benchmark::State& state, std::string_view label) {
  state.SetLabel(std::string(label));
  state.SetBytesProcessed(state.iterations() * state.range(0) * 4);
}

/// range(0) logits, the range(1) likeliest tokens.
template <class Backend>
void one_pass(benchmark::State& state) {
  const auto logits = logits_of(static_cast<std::size_t>(state.range(0)));
  std::vector<ranked_token> likeliest(static_cast<std::size_t>(state.range(1)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(router::measure<Backend>(logits, likeliest));
    benchmark::DoNotOptimize(likeliest.data());
  }
  set_rates(state, Backend::name());
}
BENCHMARK_TEMPLATE(one_pass, simd::highway_dynamic)
    ->Args({49152, 0})
    ->Args({49152, 1})
    ->Args({49152, 8})
    ->Args({49152, 40})
    ->Args({151936, 0})
    ->Args({151936, 8})
    ->Args({151936, 40})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_TEMPLATE(one_pass, simd::scalar)
    ->Args({49152, 8})
    ->Args({151936, 8})
    ->Unit(benchmark::kMicrosecond);

/// Largest, sum of exponentials, probabilities, entropy, the 8 likeliest: each a pass of its own
/// over vectors of f32, as a compiler at -O3 leaves them.
void naive_passes(benchmark::State& state) {
  const auto logits = logits_of(static_cast<std::size_t>(state.range(0)));
  std::vector<float> p(logits.size());
  std::vector<std::int32_t> order(logits.size());
  for (auto _ : state) {
    const float top = *std::max_element(logits.begin(), logits.end());
    float sum = 0, entropy = 0;
    for (const float x : logits) sum += std::exp(x - top);
    for (std::size_t j = 0; j < p.size(); ++j) p[j] = std::exp(logits[j] - top) / sum;
    for (const float q : p) entropy -= q > 0 ? q * std::log(q) : 0;
    for (std::size_t j = 0; j < order.size(); ++j) order[j] = static_cast<std::int32_t>(j);
    std::partial_sort(order.begin(), order.begin() + 8, order.end(), [&](auto a, auto b) {
      return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
    });
    benchmark::DoNotOptimize(entropy);
    benchmark::DoNotOptimize(order.data());
  }
  set_rates(state, "std::exp, std::log, std::partial_sort");
}
BENCHMARK(naive_passes)->Arg(49152)->Arg(151936)->Unit(benchmark::kMicrosecond);

constexpr std::size_t width = 2048;

/// range(0) unit rows, the range(1)-th nearest.
template <class Backend>
void cosine(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto rows = logits_of(count * width), x = logits_of(width);
  std::vector<float> scratch(count);
  for (auto _ : state) {
    benchmark::DoNotOptimize(router::cosine_distance<Backend>(
        {rows.data(), count, width}, x, static_cast<std::size_t>(state.range(1)), scratch));
  }
  state.SetLabel(std::string(Backend::name()));
}
BENCHMARK_TEMPLATE(cosine, simd::highway_dynamic)
    ->Args({16, 1})
    ->Args({256, 10})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_TEMPLATE(cosine, simd::scalar)->Args({16, 1})->Unit(benchmark::kMicrosecond);

/// range(0) means, range(1) directions; 0: full, as many as elements.
template <class Backend>
void mahalanobis(benchmark::State& state) {
  router::mahalanobis all;
  all.means = static_cast<std::size_t>(state.range(0));
  const std::size_t k = state.range(1) == 0 ? width : static_cast<std::size_t>(state.range(1));
  const auto rows = logits_of((all.means + k) * width), x = logits_of(width);
  all.centre.assign(width, 0.1F);
  all.rows.assign(rows.begin(), rows.end());
  all.squares.assign(all.means, 1.0F);
  all.along.assign(all.means * k, 0.1F);
  all.excess.assign(k, 0.5F);
  all.inverse_rest = 1;
  std::vector<float> scratch(all.scratch_size());
  for (auto _ : state) benchmark::DoNotOptimize(all.measure<Backend>(x, scratch));
  state.SetLabel(std::string(Backend::name()));
}
BENCHMARK_TEMPLATE(mahalanobis, simd::highway_dynamic)
    ->Args({16, 8})
    ->Args({16, 16})
    ->Args({16, 0})
    ->Unit(benchmark::kMicrosecond);

/// The loop that one would write: a sum per centroid.
void naive_cosine(benchmark::State& state) {
  const auto rows = logits_of(16 * width), x = logits_of(width);
  for (auto _ : state) {
    float nearest = -1;
    for (std::size_t r = 0; r < 16; ++r) {
      float sum = 0;
      for (std::size_t j = 0; j < width; ++j) sum += rows[r * width + j] * x[j];
      nearest = std::max(nearest, sum);
    }
    benchmark::DoNotOptimize(nearest);
  }
}
BENCHMARK(naive_cosine)->Unit(benchmark::kMicrosecond);

}  // namespace
