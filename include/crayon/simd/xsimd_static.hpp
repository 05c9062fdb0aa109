// SPDX-License-Identifier: MIT
// Kernels over xsimd's batches, for the architecture named in the type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <crayon/concepts.hpp>
#include <crayon/simd/xsimd_lanes.hpp>

namespace crayon::simd {
namespace xsimd_kernels {
namespace detail {
#include <crayon/simd/elementwise-inl.hpp>

#include <crayon/simd/logits-inl.hpp>

#include <crayon/simd/gemv-inl.hpp>

#include <crayon/simd/gemm-inl.hpp>

#include <crayon/simd/gemm_forms-inl.hpp>

#include <crayon/simd/combine-inl.hpp>
}  // namespace detail
#include <crayon/simd/backend-inl.hpp>
}  // namespace xsimd_kernels

/// `Arch` is an architecture that the compiler's flags allow, by default the best of them.
template <class Arch = xsimd::default_arch>
using xsimd_static = xsimd_kernels::kernels<xsimd_lanes<Arch>>;
static_assert(kernel_backend<xsimd_static<>>);

}  // namespace crayon::simd
