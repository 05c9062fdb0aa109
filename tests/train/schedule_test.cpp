// SPDX-License-Identifier: MIT
#include <crayon/train/schedule.hpp>

#include "../catch.hpp"

using namespace crayon;

TEST_CASE("every schedule rises to its peak and keeps its promise", "[train]") {
  const train::constant_schedule constant{.peak = 2, .warm_up = 4};
  const train::linear_schedule linear{.peak = 2, .warm_up = 4, .floor = 0.5F};
  const train::cosine_schedule cosine{.peak = 2, .warm_up = 4, .floor = 0.5F};
  CHECK(constant.rate(0, 104) == Approx(0.5));
  CHECK(linear.rate(1, 104) == Approx(1));
  CHECK(cosine.rate(3, 104) == Approx(2));
  CHECK(constant.rate(103, 104) == Approx(2));
  CHECK(linear.rate(4, 104) == Approx(2));
  CHECK(linear.rate(54, 104) == Approx(1.5));
  CHECK(linear.rate(104, 104) == Approx(1));
  CHECK(cosine.rate(54, 104) == Approx(1.5));
  CHECK(cosine.rate(29, 104) == Approx(2 * (0.5 + 0.5 * (0.5 + 0.5 * 0.70710678))));
  CHECK(cosine.rate(104, 104) == Approx(1));
}

TEST_CASE("a run shorter than its warm-up, and steps after the end", "[train]") {
  const train::cosine_schedule cosine{.peak = 1, .warm_up = 10};
  CHECK(cosine.rate(2, 3) == Approx(0.3));
  CHECK(cosine.rate(500, 100) == Approx(0).margin(1e-7));
  CHECK(train::cosine_schedule{.peak = 1}.rate(0, 10) == 1);
}
