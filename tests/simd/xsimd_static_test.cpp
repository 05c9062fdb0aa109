// SPDX-License-Identifier: MIT
// Compiled three times: for the baseline, for x86-64-v3 and for this machine (see CMakeLists.txt).
// The target in the backend's type keeps the three apart in one program.
#include <crayon/simd/xsimd_static.hpp>

#include <string_view>

#include "kernel_checks.hpp"

#ifndef CRAYON_TEST_FLAGS
#define CRAYON_TEST_FLAGS "baseline"
#endif

using namespace crayon;

TEMPLATE_TEST_CASE("xsimd_static kernels of one element type, " CRAYON_TEST_FLAGS, "", float, bf16,
                   f16) {
  test::check_element_kernels<simd::xsimd_static<>, TestType>();
}

TEST_CASE("xsimd_static kernels of f32, " CRAYON_TEST_FLAGS) {
  test::check_float_kernels<simd::xsimd_static<>>();
}

TEST_CASE("xsimd_static uses what -march allows, " CRAYON_TEST_FLAGS) {
  const std::string_view name = simd::xsimd_static<>::name();
  CAPTURE(name);
  REQUIRE(name.substr(0, 13) == "xsimd_static/");
#if defined(__AVX512F__)
  REQUIRE(simd::xsimd_static<>::lanes::width == 16);
#elif defined(__AVX2__)
  REQUIRE(simd::xsimd_static<>::lanes::width == 8);
#elif defined(__x86_64__)
  REQUIRE(simd::xsimd_static<>::lanes::width == 4);
#endif
}
