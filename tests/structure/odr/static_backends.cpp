// SPDX-License-Identifier: MIT
// Compiled twice with different instruction sets; the two must share no code of the kernels.
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/xsimd_static.hpp>

namespace {

template <class B>
float use_all(float* x, std::size_t n) {
  using crayon::bf16, crayon::f16, crayon::matrix_view;
  const matrix_view<float> m(x, n, n);
  const matrix_view<const float> c = m;
  B::gemv(c, x, x + n);
  B::gemv_t(c, x, x + n);
  B::gemv_add(1, c, x, x + n);
  B::gemm_nt(c, c, m, false);
  B::gemm_nn(c, c, m, false);
  B::gemm_tn(c, c, m, false);
  B::ger(1, x, x, m);
  B::softmax(x, n);
  B::rms_norm(x, x, 1, x, n);
  B::silu_mul(x, x, x, n);
  B::silu_mul_backward(x, x, x, x, x, n);
  B::softmax_backward(1, x, x, n);
  const auto* half = reinterpret_cast<const f16*>(x);
  const auto* brain = reinterpret_cast<const bf16*>(x);
  B::axpy(1, half, x, n);
  B::axpy(1, brain, x, n);
  return B::dot(x, x, n) + B::dot(half, x, n) + B::dot(brain, x, n) + B::sum_squares(x, n);
}

}  // namespace

float CRAYON_ENTRY(float* x, std::size_t n) {
  return use_all<crayon::simd::highway_static>(x, n) +
         use_all<crayon::simd::xsimd_static<>>(x, n);
}
