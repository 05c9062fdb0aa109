// SPDX-License-Identifier: MIT
// gemv and gemm of every backend beside a raw loop, the read bandwidth and the peak of fma, all in
// one run: bytes/s of gemv against read/*, flops/s of gemm against fma_peak.
#include <crayon/core/aligned.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/simd/xsimd_static.hpp>

#include <benchmark/benchmark.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

using namespace crayon;

namespace {

/// What one would write without the library, for f32 and bf16.
struct raw {
#if defined(__AVX512F__)
  static std::string_view name() {
    return "raw AVX-512 intrinsics";
  }
  static __m512 load(const float* p) {
    return _mm512_loadu_ps(p);
  }
  static __m512 load(const bf16* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static __m512 load(const f16* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  template <class E>
  static void gemv(matrix_view<const E> w, const float* x, float* y) {
    for (std::size_t r = 0; r < w.rows; ++r) {
      const E* row = w.row(r);
      __m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;
      for (std::size_t j = 0; j < w.cols; j += 64) {  // the shapes here are multiples of 64
        a = _mm512_fmadd_ps(load(row + j), _mm512_loadu_ps(x + j), a);
        b = _mm512_fmadd_ps(load(row + j + 16), _mm512_loadu_ps(x + j + 16), b);
        c = _mm512_fmadd_ps(load(row + j + 32), _mm512_loadu_ps(x + j + 32), c);
        d = _mm512_fmadd_ps(load(row + j + 48), _mm512_loadu_ps(x + j + 48), d);
      }
      y[r] = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
    }
  }
#else
  static std::string_view name() {
    return "raw loop";
  }
  template <class E>
  static void gemv(matrix_view<const E> w, const float* x, float* y) {
    for (std::size_t r = 0; r < w.rows; ++r) {
      float sum = 0;
      for (std::size_t j = 0; j < w.cols; ++j) sum += to_float(w.row(r)[j]) * x[j];
      y[r] = sum;
    }
  }
#endif
};

template <class E>
aligned_vector<E> values(std::size_t count) {
  aligned_vector<E> result(count);
  rng random{1};
  for (auto& value : result) value = from_float<E>(random.uniform() - 0.5F);
  return result;
}

void set_rates(benchmark::State& state, std::string_view label, double bytes, double flops) {
  state.SetLabel(std::string(label));
  using counter = benchmark::Counter;
  if (bytes > 0) {
    state.counters["bytes"] = counter(bytes, counter::kIsIterationInvariantRate, counter::kIs1000);
  }
  if (flops > 0) {
    state.counters["flops"] = counter(flops, counter::kIsIterationInvariantRate, counter::kIs1000);
  }
}

/// Sums memory with nothing else in the loop: the line that gemv is held against.
void read(benchmark::State& state) {
  const auto memory = values<float>(static_cast<std::size_t>(state.range(0)) / 4);
  const auto* words = reinterpret_cast<const std::uint64_t*>(memory.data());
  const std::size_t count = memory.size() / 2;
  for (auto _ : state) {
    std::uint64_t sum[32] = {};
    for (std::size_t i = 0; i + 32 <= count; i += 32) {
      for (std::size_t j = 0; j < 32; ++j) sum[j] |= words[i + j];
    }
    benchmark::DoNotOptimize(sum);
  }
  set_rates(state, "read", static_cast<double>(memory.size() * 4), 0);
}

/// As many chains of fma in registers as J, each from a number of its own: chains that start alike
/// would become one.
template <class V, std::size_t... J>
float fma_chains(const float* start, std::size_t steps, std::index_sequence<J...>) {
  typename V::vec sum[] = {V::set(start[J])...};
  const auto a = V::load(start), b = V::load(start + 1);
  for (std::size_t i = 0; i < steps; ++i) ((sum[J] = V::fma(a, b, sum[J])), ...);
  float total = 0;
  ((total += V::reduce_add(sum[J])), ...);
  return total;
}

/// What gemm is held against, compiled for this machine.
void fma_peak(benchmark::State& state) {
  using V = simd::highway_static::lanes;
  constexpr std::size_t chains = 12, steps = 10000;
  const auto start = values<float>(chains + V::width);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        fma_chains<V>(start.data(), steps, std::make_index_sequence<chains>{}));
  }
  set_rates(state, simd::highway_static::name(), 0,
            static_cast<double>(2 * chains * steps * V::width));
}

template <class B, class E>
void gemv(benchmark::State& state) {
  const auto rows = static_cast<std::size_t>(state.range(0));
  const auto cols = static_cast<std::size_t>(state.range(1));
  const auto w = values<E>(rows * cols);
  const auto x = values<float>(cols);
  aligned_vector<float> y(rows);
  for (auto _ : state) {
    B::gemv(matrix_view<const E>(w.data(), rows, cols), x.data(), y.data());
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  set_rates(state, B::name(), static_cast<double>(rows * cols * sizeof(E)),
            static_cast<double>(2 * rows * cols));
}

enum class product { nt, nn, tn };

template <class B, class E, product Form>
void gemm(benchmark::State& state) {
  const auto m = static_cast<std::size_t>(state.range(0));
  const auto n = static_cast<std::size_t>(state.range(1));
  const auto k = static_cast<std::size_t>(state.range(2));
  const auto a = values<float>(m * k);
  const auto b = values<E>(n * k);
  aligned_vector<float> c(m * n);
  const matrix_view<float> result(c.data(), m, n);
  for (auto _ : state) {
    if constexpr (Form == product::nt) {
      B::gemm_nt(matrix_view<const float>(a.data(), m, k), matrix_view<const E>(b.data(), n, k),
                 result, false);
    } else if constexpr (Form == product::nn) {
      B::gemm_nn(matrix_view<const float>(a.data(), m, k), matrix_view<const E>(b.data(), k, n),
                 result, false);
    } else {
      B::gemm_tn(matrix_view<const float>(a.data(), k, m), matrix_view<const E>(b.data(), k, n),
                 result, false);
    }
    benchmark::DoNotOptimize(c.data());
    benchmark::ClobberMemory();
  }
  set_rates(state, B::name(), static_cast<double>(4 * (m * k + m * n) + sizeof(E) * n * k),
            static_cast<double>(2 * m * n * k));
}

void gemv_shapes(benchmark::internal::Benchmark* b) {
  b->Args({2048, 2048})->Args({8192, 2048})->Args({2048, 8192});
}

/// Tokens, features out, features in: attention, MLP, and LoRA of rank 8 down and up.
void gemm_shapes(benchmark::internal::Benchmark* b) {
  b->Args({512, 256, 256})->Args({300, 688, 256})->Args({2000, 8, 256})->Args({2000, 256, 8});
}

BENCHMARK(read)->Arg(8 << 20)->Arg(32 << 20)->Arg(64 << 20);
BENCHMARK(fma_peak);

template <class B>
void add_backend(const std::string& backend) {
  const auto add = [](const std::string& name, void (*run)(benchmark::State&), auto shapes) {
    benchmark::RegisterBenchmark(name.c_str(), run)->Apply(shapes);
  };
  add("gemv/f32/" + backend, gemv<B, float>, gemv_shapes);
  add("gemv/bf16/" + backend, gemv<B, bf16>, gemv_shapes);
  add("gemv/f16/" + backend, gemv<B, f16>, gemv_shapes);
  if constexpr (kernel_backend<B>) {
    add("gemm_nt/f32/" + backend, gemm<B, float, product::nt>, gemm_shapes);
    add("gemm_nt/bf16/" + backend, gemm<B, bf16, product::nt>, gemm_shapes);
    add("gemm_nn/f32/" + backend, gemm<B, float, product::nn>, gemm_shapes);
    add("gemm_tn/f32/" + backend, gemm<B, float, product::tn>, gemm_shapes);
  }
}

const bool backends_added = [] {
  add_backend<raw>("raw");
  add_backend<simd::scalar>("scalar");
  add_backend<simd::xsimd_static<>>("xsimd_static");
  add_backend<simd::highway_static>("highway_static");
  add_backend<simd::highway_dynamic>("highway_dynamic");
  return true;
}();

}  // namespace
