// SPDX-License-Identifier: MIT
// The kernels of one target as plain function pointers: what run-time dispatch chooses between.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
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
  return {&B::template dot<E>,     &B::template axpy<E>,     &B::template gemv<E>,
          &B::template gemv_t<E>,  &B::template gemv_add<E>, &B::template weighted_sum<E>,
          &B::template gemm_nt<E>, &B::template gemm_nn<E>};
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
          &B::silu_mul};
}

/// The kernels compiled for one Highway target; defined by dispatch.ipp.
template <std::int64_t Target>
const kernel_table* table_of() noexcept;

}  // namespace dispatched
}  // namespace crayon::simd
