// SPDX-License-Identifier: MIT
// The definitions behind highway_dynamic.hpp. Compile exactly once in a program, either by linking
// crayon::dispatch or by this as the first include of one source file; a second copy is a link
// error. That file needs no -m flags: they would only raise the lowest CPU that the program runs
// on.

// One target per register width and instruction family is enough for these kernels; the others
// (SSSE3, and AVX-512 with extras for integers and bf16 products) would only add code.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS                                                          \
  (HWY_SSSE3 | HWY_AVX3_DL | (1LL << 6) /* AVX3_ZEN4 */ | (1LL << 4) /* AVX3_SPR */ | \
   (1LL << 3) /* AVX10_2 */ | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#endif

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <crayon/simd/highway_compat.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/kernel_table.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "crayon/simd/kernels-inl.hpp"
#include <hwy/foreach_target.h>

#include <crayon/simd/kernels-inl.hpp>

namespace crayon::simd {
namespace dispatched {

/// The supported targets, best first: Highway gives better targets lower bits.
struct registry {
  static constexpr std::size_t bits = 63;
  std::array<const kernel_table*, bits> tables{};
  std::array<std::string_view, bits> targets{};
  std::size_t count = 0;

  registry() noexcept { add_all(hwy::SupportedTargets(), std::make_index_sequence<bits>{}); }

 private:
  template <std::size_t... Bit>
  void add_all(std::int64_t supported, std::index_sequence<Bit...>) noexcept {
    (add<Bit>(supported), ...);
  }
  template <std::size_t Bit>
  void add(std::int64_t supported) noexcept {
    constexpr std::int64_t target = std::int64_t{1} << Bit;
    if constexpr (((HWY_TARGETS)&target) != 0) {
      if ((supported & target) != 0) {
        tables[count] = table_of<target>();
        targets[count] = tables[count]->name.substr(tables[count]->name.find('/') + 1);
        ++count;
      }
    }
  }
};

const registry& known() noexcept {
  static const registry instance;
  return instance;
}

/// Null until the first call, so that nothing runs before main.
constinit std::atomic<const kernel_table*> chosen{nullptr};

const kernel_table& choose_best() noexcept {
  const kernel_table* none = nullptr;
  chosen.compare_exchange_strong(none, known().tables[0], std::memory_order_relaxed);
  return *chosen.load(std::memory_order_relaxed);
}

const kernel_table& active() noexcept {
  const kernel_table* table = chosen.load(std::memory_order_relaxed);
  return table != nullptr ? *table : choose_best();
}

template <element E>
float entry<E>::dot(const E* p, const float* x, std::size_t n) noexcept {
  return active().template of<E>().dot(p, x, n);
}
template <element E>
void entry<E>::axpy(float s, const E* p, float* y, std::size_t n) noexcept {
  active().template of<E>().axpy(s, p, y, n);
}
template <element E>
void entry<E>::gemv(matrix_view<const E> w, const float* x, float* y) noexcept {
  active().template of<E>().gemv(w, x, y);
}
template <element E>
void entry<E>::gemv_t(matrix_view<const E> w, const float* x, float* y) noexcept {
  active().template of<E>().gemv_t(w, x, y);
}
template <element E>
void entry<E>::gemv_add(float s, matrix_view<const E> w, const float* x, float* y) noexcept {
  active().template of<E>().gemv_add(s, w, x, y);
}
template <element E>
void entry<E>::weighted_sum(weighted_rows<E> rows, E* e, std::size_t n) noexcept {
  active().template of<E>().weighted_sum(rows, e, n);
}
template <element E>
void entry<E>::weighted_sum(weighted_tiles<E> rows, E* e, std::size_t n,
                            bool past_caches) noexcept {
  active().template of<E>().weighted_sum_of_tiles(rows, e, n, past_caches);
}
template <element E>
void entry<E>::weighted_sums(weighted_tiles<E> rows, std::size_t sums, E* e, std::size_t stride,
                             std::size_t n) noexcept {
  active().template of<E>().weighted_sums(rows, sums, e, stride, n);
}
template <element E>
void entry<E>::weighted_row_sums(weighted_tiles<E> rows, std::size_t cols, std::size_t sums, E* e,
                                 std::size_t n, float* scratch) noexcept {
  active().template of<E>().weighted_row_sums(rows, cols, sums, e, n, scratch);
}
template <element E>
void entry<E>::gemm_nt(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                       bool accumulate) noexcept {
  active().template of<E>().gemm_nt(u, w, m, accumulate);
}
template <element E>
void entry<E>::gemm_nn(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                       bool accumulate) noexcept {
  active().template of<E>().gemm_nn(u, w, m, accumulate);
}
template struct entry<float>;
template struct entry<bf16>;
template struct entry<f16>;

}  // namespace dispatched

std::string_view highway_dynamic::name() noexcept {
  return dispatched::active().name;
}

std::span<const std::string_view> highway_dynamic::targets() noexcept {
  return std::span(dispatched::known().targets).first(dispatched::known().count);
}

bool highway_dynamic::use_target(std::string_view target) noexcept {
  const auto& known = dispatched::known();
  for (std::size_t i = 0; i < known.count; ++i) {
    if (known.targets[i] == target) {
      dispatched::chosen.store(known.tables[i], std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

void highway_dynamic::gemm_tn(matrix_view<const float> u, matrix_view<const float> v,
                              matrix_view<float> m, bool accumulate) noexcept {
  dispatched::active().gemm_tn(u, v, m, accumulate);
}
void highway_dynamic::ger(float s, const float* x, const float* y, matrix_view<float> m) noexcept {
  dispatched::active().ger(s, x, y, m);
}
float highway_dynamic::sum_squares(const float* x, std::size_t n) noexcept {
  return dispatched::active().sum_squares(x, n);
}
void highway_dynamic::softmax(float* y, std::size_t n) noexcept {
  dispatched::active().softmax(y, n);
}
void highway_dynamic::rms_norm(const float* x, const float* weight, float epsilon, float* y,
                               std::size_t n) noexcept {
  dispatched::active().rms_norm(x, weight, epsilon, y, n);
}
void highway_dynamic::silu_mul(const float* x, const float* up, float* y, std::size_t n) noexcept {
  dispatched::active().silu_mul(x, up, y, n);
}
void highway_dynamic::silu_mul_backward(const float* x, const float* up, const float* dy, float* dx,
                                        float* d_up, std::size_t n) noexcept {
  dispatched::active().silu_mul_backward(x, up, dy, dx, d_up, n);
}
void highway_dynamic::softmax_backward(float s, const float* p, float* d, std::size_t n) noexcept {
  dispatched::active().softmax_backward(s, p, d, n);
}
logit_summary highway_dynamic::summarize(const float* x, std::size_t n,
                                         std::span<ranked_token> likeliest) noexcept {
  return dispatched::active().summarize(x, n, likeliest);
}

}  // namespace crayon::simd
