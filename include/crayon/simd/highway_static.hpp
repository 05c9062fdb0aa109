// SPDX-License-Identifier: MIT
// Kernels for the instruction set that this file is compiled for (-march).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <crayon/concepts.hpp>
#include <crayon/simd/highway_compat.hpp>
#include <crayon/simd/kernel_table.hpp>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace crayon::simd {
namespace HWY_NAMESPACE {
namespace detail {
#include <crayon/simd/elementwise-inl.hpp>

#include <crayon/simd/logits-inl.hpp>

#include <crayon/simd/gemv-inl.hpp>

#include <crayon/simd/gemm-inl.hpp>

#include <crayon/simd/gemm_forms-inl.hpp>

#include <crayon/simd/combine-inl.hpp>
}  // namespace detail
#include <crayon/simd/highway_lanes-inl.hpp>

#include <crayon/simd/backend-inl.hpp>
}  // namespace HWY_NAMESPACE
}  // namespace crayon::simd
HWY_AFTER_NAMESPACE();

namespace crayon::simd {

/// The target is part of the type: files compiled with different -m flags never share its code.
template <std::int64_t Target>
using basic_highway_static = HWY_NAMESPACE::kernels<HWY_NAMESPACE::highway_lanes<Target>>;

using highway_static = basic_highway_static<HWY_STATIC_TARGET>;
static_assert(kernel_backend<highway_static>);

}  // namespace crayon::simd
