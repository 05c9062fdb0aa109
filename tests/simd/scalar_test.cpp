// SPDX-License-Identifier: MIT
#include <crayon/simd/scalar.hpp>

#include "kernel_checks.hpp"

using namespace crayon;

TEMPLATE_TEST_CASE("scalar kernels of one element type", "", float, bf16, f16) {
  test::check_element_kernels<simd::scalar, TestType>();
}

TEST_CASE("scalar kernels of f32") {
  test::check_float_kernels<simd::scalar>();
}
