// SPDX-License-Identifier: MIT
// The kernels of one target as a backend. Included like elementwise-inl.hpp, after the others.

template <class V>
struct kernels {
  using lanes = V;

  static constexpr std::string_view name() noexcept { return V::name(); }

  template <element E>
  static float dot(const E* p, const float* x, std::size_t n) noexcept {
    return detail::dot<V>(p, x, n);
  }
  template <element E>
  static void axpy(float s, const E* p, float* y, std::size_t n) noexcept {
    detail::axpy<V>(s, p, y, n);
  }
  template <element E>
  static void gemv(matrix_view<const E> w, const float* x, float* y) noexcept {
    detail::gemv<V>(w, x, y);
  }
  template <element E>
  static void gemv_t(matrix_view<const E> w, const float* x, float* y) noexcept {
    detail::gemv_t<V>(w, x, y);
  }
  template <element E>
  static void gemv_add(float s, matrix_view<const E> w, const float* x, float* y) noexcept {
    detail::gemv_add<V>(s, w, x, y);
  }
  template <element E>
  static void weighted_sum(weighted_rows<E> rows, E* e, std::size_t n) noexcept {
    detail::weighted_sum<V>(rows, e, n);
  }
  template <element E>
  static void weighted_sum(weighted_tiles<E> rows, E* e, std::size_t n, bool past_caches) noexcept {
    detail::weighted_sum<V>(rows, e, n, past_caches);
  }
  template <element E>
  static void weighted_sums(weighted_tiles<E> rows, std::size_t sums, E* e, std::size_t stride,
                            std::size_t n) noexcept {
    detail::weighted_sums<V>(rows, sums, e, stride, n);
  }
  template <element E>
  static void weighted_row_sums(weighted_tiles<E> rows, std::size_t cols, std::size_t sums, E* e,
                                std::size_t n, float* scratch) noexcept {
    detail::weighted_row_sums<V>(rows, cols, sums, e, n, scratch);
  }
  template <element E>
  static void gemm_nt(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                      bool accumulate) noexcept {
    detail::gemm_nt<V>(u, w, m, accumulate);
  }
  template <element E>
  static void gemm_nn(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                      bool accumulate) noexcept {
    detail::gemm_nn<V>(u, w, m, accumulate);
  }
  static void gemm_tn(matrix_view<const float> u, matrix_view<const float> v, matrix_view<float> m,
                      bool accumulate) noexcept {
    detail::gemm_tn<V>(u, v, m, accumulate);
  }
  static void ger(float s, const float* x, const float* y, matrix_view<float> m) noexcept {
    detail::ger<V>(s, x, y, m);
  }
  static float sum_squares(const float* x, std::size_t n) noexcept {
    return detail::dot<V>(x, x, n);
  }
  static void softmax(float* y, std::size_t n) noexcept { detail::softmax<V>(y, n); }
  static void rms_norm(const float* x, const float* weight, float epsilon, float* y,
                       std::size_t n) noexcept {
    detail::rms_norm<V>(x, weight, epsilon, y, n);
  }
  static void silu_mul(const float* x, const float* up, float* y, std::size_t n) noexcept {
    detail::silu_mul<V>(x, up, y, n);
  }
  static void silu_mul_backward(const float* x, const float* up, const float* dy, float* dx,
                                float* d_up, std::size_t n) noexcept {
    detail::silu_mul_backward<V>(x, up, dy, dx, d_up, n);
  }
  static void softmax_backward(float s, const float* p, float* d, std::size_t n) noexcept {
    detail::softmax_backward<V>(s, p, d, n);
  }
  static logit_summary summarize(const float* x, std::size_t n,
                                 std::span<ranked_token> likeliest) noexcept {
    return detail::summarize<V>(x, n, likeliest);
  }
};
