// SPDX-License-Identifier: MIT
// The kernels of one target as plain function pointers: what run-time dispatch chooses between.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <crayon/concepts.hpp>

namespace crayon::simd {

/// `prefix` and the target of a Highway namespace "N_AVX3", zero-terminated: "prefix/AVX3".
template <std::size_t Prefix, std::size_t Name>
[[nodiscard]] constexpr std::array<char, Prefix + Name - 3> backend_label(
    const char (&prefix)[Prefix], const char (&hwy_namespace)[Name]) noexcept {
  std::array<char, Prefix + Name - 3> text{};
  for (std::size_t i = 0; i + 1 < Prefix; ++i) text[i] = prefix[i];
  for (std::size_t i = 2; i < Name; ++i) text[Prefix - 3 + i] = hwy_namespace[i];
  return text;
}

namespace dispatched {

template <element E>
struct element_kernels {
  float (*dot)(const E*, const float*, std::size_t) noexcept;
  void (*axpy)(float, const E*, float*, std::size_t) noexcept;
  void (*gemv)(matrix_view<const E>, const float*, float*) noexcept;
  void (*gemv_t)(matrix_view<const E>, const float*, float*) noexcept;
  void (*gemv_add)(float, matrix_view<const E>, const float*, float*) noexcept;
  void (*weighted_sum)(weighted_rows<E>, E*, std::size_t) noexcept;
  void (*weighted_sum_of_tiles)(weighted_tiles<E>, E*, std::size_t, bool) noexcept;
  void (*weighted_sums)(weighted_tiles<E>, std::size_t, E*, std::size_t, std::size_t) noexcept;
  void (*weighted_row_sums)(weighted_tiles<E>, std::size_t, std::size_t, E*, std::size_t,
                            float*) noexcept;
  void (*gemm_nt)(matrix_view<const float>, matrix_view<const E>, matrix_view<float>,
                  bool) noexcept;
  void (*gemm_nn)(matrix_view<const float>, matrix_view<const E>, matrix_view<float>,
                  bool) noexcept;
};

struct kernel_table {
  std::string_view name;  ///< "highway_dynamic/AVX3"
  element_kernels<float> of_f32;
  element_kernels<bf16> of_bf16;
  element_kernels<f16> of_f16;
  void (*gemm_tn)(matrix_view<const float>, matrix_view<const float>, matrix_view<float>,
                  bool) noexcept;
  void (*ger)(float, const float*, const float*, matrix_view<float>) noexcept;
  float (*sum_squares)(const float*, std::size_t) noexcept;
  void (*softmax)(float*, std::size_t) noexcept;
  void (*rms_norm)(const float*, const float*, float, float*, std::size_t) noexcept;
  void (*silu_mul)(const float*, const float*, float*, std::size_t) noexcept;
  void (*silu_mul_backward)(const float*, const float*, const float*, float*, float*,
                            std::size_t) noexcept;
  void (*softmax_backward)(float, const float*, float*, std::size_t) noexcept;
  logit_summary (*summarize)(const float*, std::size_t, std::span<ranked_token>) noexcept;

  template <element E>
  [[nodiscard]] constexpr const element_kernels<E>& of() const noexcept {
    if constexpr (std::same_as<E, float>) {
      return of_f32;
    } else if constexpr (std::same_as<E, bf16>) {
      return of_bf16;
    } else {
      return of_f16;
    }
  }
};

template <class B, element E>
[[nodiscard]] constexpr element_kernels<E> make_element_kernels() noexcept {
  element_kernels<E> kernels{};
  kernels.dot = &B::template dot<E>;
  kernels.axpy = &B::template axpy<E>;
  kernels.gemv = &B::template gemv<E>;
  kernels.gemv_t = &B::template gemv_t<E>;
  kernels.gemv_add = &B::template gemv_add<E>;
  kernels.weighted_sum = &B::template weighted_sum<E>;
  kernels.weighted_sum_of_tiles = &B::template weighted_sum<E>;
  kernels.weighted_sums = &B::template weighted_sums<E>;
  kernels.weighted_row_sums = &B::template weighted_row_sums<E>;
  kernels.gemm_nt = &B::template gemm_nt<E>;
  kernels.gemm_nn = &B::template gemm_nn<E>;
  return kernels;
}

template <kernel_backend B>
[[nodiscard]] constexpr kernel_table make_kernel_table(std::string_view name) noexcept {
  return {name,
          make_element_kernels<B, float>(),
          make_element_kernels<B, bf16>(),
          make_element_kernels<B, f16>(),
          &B::gemm_tn,
          &B::ger,
          &B::sum_squares,
          &B::softmax,
          &B::rms_norm,
          &B::silu_mul,
          &B::silu_mul_backward,
          &B::softmax_backward,
          &B::summarize};
}

/// The kernels compiled for one Highway target; defined by dispatch.ipp.
template <std::int64_t Target>
const kernel_table* table_of() noexcept;

}  // namespace dispatched
}  // namespace crayon::simd
