// SPDX-License-Identifier: MIT
// Compiled three times: for the baseline, for x86-64-v3 and for this machine (see CMakeLists.txt).
// The target in the backend's type keeps the three apart in one program.
#include <crayon/simd/highway_static.hpp>

#include <string_view>

#include "kernel_checks.hpp"

#ifndef CRAYON_TEST_FLAGS
#define CRAYON_TEST_FLAGS "baseline"
#endif

using namespace crayon;

TEMPLATE_TEST_CASE("highway_static kernels of one element type, " CRAYON_TEST_FLAGS, "", float,
                   bf16, f16) {
  test::check_element_kernels<simd::highway_static, TestType>();
}

TEST_CASE("highway_static kernels of f32, " CRAYON_TEST_FLAGS) {
  test::check_float_kernels<simd::highway_static>();
}

TEST_CASE("highway_static uses what -march allows, " CRAYON_TEST_FLAGS) {
  const std::string_view name = simd::highway_static::name();
  CAPTURE(name);
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  REQUIRE(name.substr(0, 19) == "highway_static/AVX3");
#elif defined(__AVX2__) && defined(__FMA__)
  REQUIRE(name == "highway_static/AVX2");
#else
  REQUIRE(name.substr(0, 15) == "highway_static/");
#endif
#if defined(__x86_64__) && !HWY_BROKEN_EMU128
  REQUIRE(simd::highway_static::lanes::width >= 4);
#endif
}
