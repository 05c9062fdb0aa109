// SPDX-License-Identifier: MIT
// Kernels for the best instruction set of the CPU that the program finds itself on. Needs no
// Highway header and no compiler flag; link crayon::dispatch (or compile dispatch.ipp once).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include <crayon/concepts.hpp>

namespace crayon::simd {

namespace dispatched {

/// Each call goes through one table of function pointers.
template <element E>
struct entry {
  static float dot(const E* p, const float* x, std::size_t n) noexcept;
  static void axpy(float s, const E* p, float* y, std::size_t n) noexcept;
  static void gemv(matrix_view<const E> w, const float* x, float* y) noexcept;
  static void gemv_t(matrix_view<const E> w, const float* x, float* y) noexcept;
  static void gemv_add(float s, matrix_view<const E> w, const float* x, float* y) noexcept;
  static void weighted_sum(weighted_rows<E> rows, E* e, std::size_t n) noexcept;
  static void weighted_sum(weighted_tiles<E> rows, E* e, std::size_t n, bool past_caches) noexcept;
  static void weighted_sums(weighted_tiles<E> rows, std::size_t sums, E* e, std::size_t stride,
                            std::size_t n) noexcept;
  static void weighted_row_sums(weighted_tiles<E> rows, std::size_t cols, std::size_t sums, E* e,
                                std::size_t n, float* scratch) noexcept;
  static void gemm_nt(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                      bool accumulate) noexcept;
  static void gemm_nn(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                      bool accumulate) noexcept;
};
extern template struct entry<float>;
extern template struct entry<bf16>;
extern template struct entry<f16>;

}  // namespace dispatched

/// Safe from any thread. The target is chosen at the first call.
struct highway_dynamic {
  /// "highway_dynamic/AVX3": the target in use.
  [[nodiscard]] static std::string_view name() noexcept;

  /// The targets that were compiled and that this CPU has, best first: "AVX3", "AVX2", ...
  [[nodiscard]] static std::span<const std::string_view> targets() noexcept;

  /// Uses one of `targets()` from now on, on all threads; false, and nothing changes, for another
  /// name. For tests and measurements; call it while no kernel runs.
  static bool use_target(std::string_view target) noexcept;

  template <element E>
  static float dot(const E* p, const float* x, std::size_t n) noexcept {
    return dispatched::entry<E>::dot(p, x, n);
  }
  template <element E>
  static void axpy(float s, const E* p, float* y, std::size_t n) noexcept {
    dispatched::entry<E>::axpy(s, p, y, n);
  }
  template <element E>
  static void gemv(matrix_view<const E> w, const float* x, float* y) noexcept {
    dispatched::entry<E>::gemv(w, x, y);
  }
  template <element E>
  static void gemv_t(matrix_view<const E> w, const float* x, float* y) noexcept {
    dispatched::entry<E>::gemv_t(w, x, y);
  }
  template <element E>
  static void gemv_add(float s, matrix_view<const E> w, const float* x, float* y) noexcept {
    dispatched::entry<E>::gemv_add(s, w, x, y);
  }
  template <element E>
  static void weighted_sum(weighted_rows<E> rows, E* e, std::size_t n) noexcept {
    dispatched::entry<E>::weighted_sum(rows, e, n);
  }
  template <element E>
  static void weighted_sum(weighted_tiles<E> rows, E* e, std::size_t n, bool past_caches) noexcept {
    dispatched::entry<E>::weighted_sum(rows, e, n, past_caches);
  }
  template <element E>
  static void weighted_sums(weighted_tiles<E> rows, std::size_t sums, E* e, std::size_t stride,
                            std::size_t n) noexcept {
    dispatched::entry<E>::weighted_sums(rows, sums, e, stride, n);
  }
  template <element E>
  static void weighted_row_sums(weighted_tiles<E> rows, std::size_t cols, std::size_t sums, E* e,
                                std::size_t n, float* scratch) noexcept {
    dispatched::entry<E>::weighted_row_sums(rows, cols, sums, e, n, scratch);
  }
  template <element E>
  static void gemm_nt(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                      bool accumulate) noexcept {
    dispatched::entry<E>::gemm_nt(u, w, m, accumulate);
  }
  template <element E>
  static void gemm_nn(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                      bool accumulate) noexcept {
    dispatched::entry<E>::gemm_nn(u, w, m, accumulate);
  }
  static void gemm_tn(matrix_view<const float> u, matrix_view<const float> v, matrix_view<float> m,
                      bool accumulate) noexcept;
  static void ger(float s, const float* x, const float* y, matrix_view<float> m) noexcept;
  static float sum_squares(const float* x, std::size_t n) noexcept;
  static void softmax(float* y, std::size_t n) noexcept;
  static void rms_norm(const float* x, const float* weight, float epsilon, float* y,
                       std::size_t n) noexcept;
  static void silu_mul(const float* x, const float* up, float* y, std::size_t n) noexcept;
  static void silu_mul_backward(const float* x, const float* up, const float* dy, float* dx,
                                float* d_up, std::size_t n) noexcept;
  static void softmax_backward(float s, const float* p, float* d, std::size_t n) noexcept;
  static logit_summary summarize(const float* x, std::size_t n,
                                 std::span<ranked_token> likeliest) noexcept;
};
static_assert(kernel_backend<highway_dynamic>);

}  // namespace crayon::simd
