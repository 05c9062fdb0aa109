// SPDX-License-Identifier: MIT
// The kernels over Highway's vectors. dispatch.ipp has <hwy/foreach_target.h> include this file
// once per target; nobody else includes it.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <crayon/simd/kernel_table.hpp>

#if defined(CRAYON_SIMD_KERNELS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef CRAYON_SIMD_KERNELS_INL
#undef CRAYON_SIMD_KERNELS_INL
#else
#define CRAYON_SIMD_KERNELS_INL
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
// Not the namespace of highway_static: a static copy of one target may have been compiled with more
// instructions than that target has, and the linker must not pick it here.
namespace crayon::simd::dispatched {
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
}  // namespace crayon::simd::dispatched
HWY_AFTER_NAMESPACE();

// Outside: this runs before anybody knows whether the CPU has the target.
namespace crayon::simd::dispatched {
template <>
const kernel_table* table_of<HWY_TARGET>() noexcept {
  using backend = HWY_NAMESPACE::kernels<HWY_NAMESPACE::highway_lanes<HWY_TARGET>>;
  static constexpr auto label = backend_label("highway_dynamic/", HWY_STR(HWY_NAMESPACE));
  static constexpr kernel_table table = make_kernel_table<backend>(label.data());
  return &table;
}
}  // namespace crayon::simd::dispatched

#endif
