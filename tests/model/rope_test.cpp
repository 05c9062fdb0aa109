// SPDX-License-Identifier: MIT
#include <crayon/model/rope.hpp>

#include <complex>

#include "fixture.hpp"

using crayon::model::rope_table;

TEST_CASE("rope turns each pair by position * theta^(-2j/d)", "[model]") {
  constexpr std::size_t d = 8;
  const rope_table rope(d, 50, 500.0F);
  const auto x = random_values(d, 3);
  for (const std::size_t position : {0UL, 1UL, 49UL}) {
    auto y = x;
    rope.rotate(y.data(), position);
    for (std::size_t j = 0; j < d / 2; ++j) {
      const double angle = static_cast<double>(position) *
                           std::pow(500.0, -2.0 * static_cast<double>(j) / static_cast<double>(d));
      const auto z =
          std::complex<double>(double{x[j]}, double{x[j + d / 2]}) * std::polar(1.0, angle);
      CHECK(double{y[j]} == Approx(z.real()).margin(1e-6));
      CHECK(double{y[j + d / 2]} == Approx(z.imag()).margin(1e-6));
    }
    rope.rotate_back(y.data(), position);
    CHECK(relative_distance(y, x) < 1e-6);
  }
}

TEST_CASE("rope keeps scores a function of the distance", "[model]") {
  const rope_table rope(16, 64, 10000.0F);
  const auto q = random_values(16, 1), k = random_values(16, 2);
  const auto score = [&](std::size_t at, std::size_t other) {
    auto a = q, b = k;
    rope.rotate(a.data(), at);
    rope.rotate(b.data(), other);
    double sum = 0;
    for (std::size_t j = 0; j < 16; ++j) sum += double{a[j]} * double{b[j]};
    return sum;
  };
  CHECK(score(10, 3) == Approx(score(60, 53)).margin(1e-4));
  CHECK(score(10, 3) != Approx(score(10, 4)).margin(1e-2));
}
