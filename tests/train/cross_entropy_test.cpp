// SPDX-License-Identifier: MIT
#include <crayon/train/cross_entropy.hpp>

#include <array>
#include <cmath>
#include <vector>

#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"

using namespace crayon;

TEMPLATE_TEST_CASE("cross-entropy: loss, hits and gradient", "[train]", simd::scalar,
                   simd::highway_dynamic) {
  std::vector<float> logits{0, 1, 2, 2, 1, 0};
  const std::array<std::int32_t, 2> targets{2, 1};
  const auto sum =
      train::cross_entropy<TestType>(matrix_view<float>(logits.data(), 2, 3), targets, 0.5F);
  const double total = 1 + std::exp(1.0) + std::exp(2.0);
  CHECK(sum.loss == Approx(2 * std::log(total) - 2 - 1).epsilon(1e-6));
  CHECK(sum.correct == 1);
  CHECK(logits[0] == Approx(0.5 / total));
  CHECK(logits[2] == Approx(0.5 * (std::exp(2.0) / total - 1)));
  CHECK(logits[4] == Approx(0.5 * (std::exp(1.0) / total - 1)));
}

TEMPLATE_TEST_CASE("a target whose probability underflows has a finite loss", "[train]",
                   simd::scalar, simd::highway_dynamic) {
  std::vector<float> logits{300, 0};
  const std::array<std::int32_t, 1> targets{1};
  const auto sum =
      train::cross_entropy<TestType>(matrix_view<float>(logits.data(), 1, 2), targets, 1);
  CHECK(sum.loss == Approx(300));
  CHECK(logits[1] == Approx(-1));
}
