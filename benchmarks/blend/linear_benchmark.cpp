// SPDX-License-Identifier: MIT
// The linear blend on all seven projections of Llama-3.2-1B and Llama-2-7B, from the interleaved
// pool: every backend, a loop written by hand, and reading the pool's memory and nothing else. They
// take turns within one iteration, so that each ratio is of neighbours in time. The time of an
// iteration is that of highway_dynamic; GB/s count N adapters read and one written; "percent" is
// the median of its ratio to the read line. A pool larger than CRAYON_BENCHMARK_GB (10) is left
// out.
#include <crayon/blend/linear.hpp>

#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/xsimd_static.hpp>

#include <benchmark/benchmark.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "shapes.hpp"

using namespace crayon_benchmark;

namespace {

// What one would write without the library, for this machine and these pools: every adapter has a
// weight, a tile is a multiple of 256 elements.
#if defined(__AVX512F__)
constexpr const char* raw_name = "intrinsics";

__m512 bits(__m512i v) {
  return _mm512_castsi512_ps(v);
}
__m512i rounded(__m512 v) {
  const __m512i b = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(1));
  const __m512i r = _mm512_add_epi32(b, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(r, nan, b, _mm512_set1_epi32(0x400000));
}

void raw_block(const float* weights, std::size_t count, const bf16* from, std::size_t tile,
               std::size_t ahead, bf16* to) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
  __m512 even[8], odd[8];
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) even[j] = odd[j] = _mm512_setzero_ps();
  for (std::size_t k = 0; k < count; ++k, from += tile) {
    const __m512 w = _mm512_set1_ps(weights[k]);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      __builtin_prefetch(reinterpret_cast<const char*>(from + 32 * j) + ahead, 0, 2);
      const __m512i x = _mm512_loadu_si512(from + 32 * j);
      even[j] = _mm512_fmadd_ps(w, bits(_mm512_slli_epi32(x, 16)), even[j]);
      odd[j] = _mm512_fmadd_ps(w, bits(_mm512_and_si512(x, upper)), odd[j]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    const __m512i both = _mm512_or_si512(_mm512_srli_epi32(rounded(even[j]), 16),
                                         _mm512_and_si512(rounded(odd[j]), upper));
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + 32 * j), both);
  }
}

void raw_block(const float* weights, std::size_t count, const float* from, std::size_t tile,
               std::size_t ahead, float* to) {
  for (std::size_t i = 0; i < 256; i += 64) {
    __m512 sum[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sum[j] = _mm512_setzero_ps();
    for (std::size_t k = 0; k < count; ++k) {
      const float* p = from + k * tile + i;
      const __m512 w = _mm512_set1_ps(weights[k]);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        __builtin_prefetch(reinterpret_cast<const char*>(p + 16 * j) + ahead, 0, 2);
        sum[j] = _mm512_fmadd_ps(w, _mm512_loadu_ps(p + 16 * j), sum[j]);
      }
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) _mm512_stream_ps(to + i + 16 * j, sum[j]);
  }
}

template <element E>
void raw_tiles(const float* weights, adapter::interleaved_view<const E> from, std::size_t first,
               std::size_t last, E* to) {
  const std::size_t block = from.count * from.tile * sizeof(E);
  const std::size_t ahead = (8192 + block - 1) / block * block;
  for (std::size_t t = first; t < last; ++t) {
    for (std::size_t j = 0; j < from.tile; j += 256) {
      raw_block(weights, from.count, from.at(t, 0) + j, from.tile, ahead, to + t * from.tile + j);
    }
  }
  _mm_sfence();
}
#else
constexpr const char* raw_name = "loop";

template <element E>
void raw_tiles(const float* weights, adapter::interleaved_view<const E> from, std::size_t first,
               std::size_t last, E* CRAYON_RESTRICT to) {
  for (std::size_t t = first; t < last; ++t) {
    for (std::size_t j = 0; j < from.length(t); ++j) {
      float sum = 0;
      for (std::size_t k = 0; k < from.count; ++k) {
        sum += weights[k] * to_float(from.at(t, k)[j]);
      }
      to[t * from.tile + j] = from_float<E>(sum);
    }
  }
}
#endif

template <element E, class X>
void raw(const adapter::pool<E>& pool, const std::vector<weighted_slot>& slots,
         adapter::lora_adapter<E>& out, X& threads) {
  std::vector<float> weights;
  for (const auto& s : slots) weights.push_back(s.weight);
  const std::size_t parts = threads.concurrency();
  threads.parallel_for(parts, [&](std::size_t part) {
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      for (const auto& [from, to] :
           {std::pair(pool.a(i), out.a(i)), std::pair(pool.b(i), out.b(i))}) {
        const auto [first, last] = part_of(from.tiles(), part, parts);
        raw_tiles(weights.data(), from, first, last, to.data);
      }
    }
  });
}

struct problem {
  model_shape model;
  std::size_t rank, count, threads;

  template <element E>
  std::string pool_name() const {
    std::string text = "linear/";
    text += model.name;
    text += "/r" + std::to_string(rank) + "/N" + std::to_string(count);
    return text + (sizeof(E) == 4 ? "/f32" : "/bf16");
  }
  template <element E>
  std::string label() const {
    return pool_name<E>() + "/threads" + std::to_string(threads);
  }
};

/// The pool of the current problem: gigabytes, so one at a time.
template <element E>
std::unique_ptr<adapter::pool<E>> held;
std::string held_name;

template <element E>
const adapter::pool<E>& pool_for(const problem& p) {
  const std::string wanted = p.pool_name<E>();
  if (held_name != wanted) {
    held<float> = nullptr;
    held<bf16> = nullptr;
    held<E> = std::make_unique<adapter::pool<E>>(pool_of<E>(sites_of(p.model, p.rank), p.count));
    held_name = wanted;
  }
  return *held<E>;
}

template <element E>
void linear(benchmark::State& state, const problem& p) {
  const auto& pool = pool_for<E>(p);
  const auto slots = weights_of(p.count);
  adapter::lora_adapter<E> out(pool.shapes());
  thread_pool threads(p.threads);
  const double bytes = static_cast<double>((p.count + 1) * bytes_of(pool));

  const auto blend = [&]<class B>(B) {
    if (!blend::linear<B>::blend_into(pool, slots, out, threads)) state.SkipWithError("refused");
    benchmark::ClobberMemory();
  };
  struct contender {
    std::string name;
    std::vector<double> seconds = {}, ratio = {};
  };
  contender hand{raw_name}, xsimd{"xsimd"}, fixed{"highway_static"}, dynamic{"highway_dynamic"};
  std::vector<double> reading;
  const auto timed = [&](auto&& run) {
    const double start = now(p.threads);
    run();
    return now(p.threads) - start;
  };
  const auto take = [&](contender& c, auto&& run) {
    const double line = timed([&] { benchmark::DoNotOptimize(read(pool, threads)); });
    reading.push_back(static_cast<double>(pool.bytes()) / line);
    c.seconds.push_back(timed(run));
    c.ratio.push_back(bytes / c.seconds.back() / reading.back());
  };
  for (auto _ : state) {
    take(hand, [&] { raw(pool, slots, out, threads); });
    take(xsimd, [&] { blend(simd::xsimd_static<>{}); });
    take(fixed, [&] { blend(simd::highway_static{}); });
    take(dynamic, [&] { blend(simd::highway_dynamic{}); });
    state.SetIterationTime(dynamic.seconds.back());
  }
  state.counters["read GB/s"] = median(reading) / 1e9;
  state.counters["blend ms"] = 1e3 * median(dynamic.seconds);
  for (const auto* c : {&hand, &xsimd, &fixed, &dynamic}) {
    state.counters[c->name + " GB/s"] = bytes / median(c->seconds) / 1e9;
    state.counters[c->name + " %"] = 100 * median(c->ratio);
  }
  // The oracle's speed, once: it is many times slower, and nobody waits for it.
  if (p.count == 8 && p.rank == 8 && p.threads == 1) {
    const double seconds = timed([&] { blend(simd::scalar{}); });
    state.counters["scalar GB/s"] = bytes / seconds / 1e9;
  }
  state.counters["pool GB"] = static_cast<double>(pool.bytes()) / 1e9;
}

template <element E>
void add(const problem& p) {
  const char* limit = std::getenv("CRAYON_BENCHMARK_GB");
  std::size_t elements = 0;
  for (const auto& s : sites_of(p.model, p.rank)) elements += s.rank * (s.in + s.out);
  const double gigabytes = static_cast<double>(elements * sizeof(E) * p.count) / 1e9;
  if (gigabytes > (limit != nullptr ? std::atof(limit) : 10.0)) return;
  benchmark::RegisterBenchmark(p.label<E>().c_str(),
                               [p](benchmark::State& state) { linear<E>(state, p); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(std::clamp<std::int64_t>(static_cast<std::int64_t>(4 / gigabytes), 9, 41));
}

const bool added = [] {
  for (const auto& model : {llama_1b, llama_7b}) {
    for (const std::size_t count : {8U, 64U}) {
      for (const std::size_t rank : {8U, 16U}) {
        for (const std::size_t threads : {1U, 2U}) add<bf16>({model, rank, count, threads});
        for (const std::size_t threads : {1U, 2U}) add<float>({model, rank, count, threads});
      }
    }
  }
  return true;
}();

}  // namespace
