// SPDX-License-Identifier: MIT
#include <crayon/core/rng.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include "../catch.hpp"

using crayon::rng;

TEST_CASE("the sequence is SplitMix64's") {
  // From the reference implementation at https://prng.di.unimi.it/splitmix64.c, seed 1234567.
  rng g(1234567);
  CHECK(g() == 6457827717110365317U);
  CHECK(g() == 3203168211198807973U);
  CHECK(g() == 9817491932198370423U);
  CHECK(g() == 4593380528125082431U);
  CHECK(g() == 16408922859458223821U);
}

TEST_CASE("a generator made from a state continues where that one stands") {
  rng a(7);
  for (int i = 0; i < 5; ++i) a();
  rng b(a.state());
  CHECK(a() == b());
}

TEST_CASE("moments of the uniform and the normal numbers") {
  rng g(1);
  constexpr int n = 200000;
  double uniform = 0, normal = 0, square = 0;
  float low = 1, high = 0;
  for (int i = 0; i < n; ++i) {
    const float u = g.uniform();
    low = std::min(low, u);
    high = std::max(high, u);
    uniform += double{u};
    const double z = double{g.normal()};
    normal += z;
    square += z * z;
  }
  // Five standard errors each.
  CHECK(std::abs(uniform / n - 0.5) < 5 * 0.2887 / std::sqrt(n));
  CHECK(std::abs(normal / n) < 5 / std::sqrt(n));
  CHECK(std::abs(square / n - 1) < 5 * std::sqrt(2.0) / std::sqrt(n));
  CHECK(low >= 0);
  CHECK(high < 1);
}

TEST_CASE("below and shuffle reach every value and lose none") {
  rng g(3);
  std::vector<int> seen(7);
  for (int i = 0; i < 7000; ++i) ++seen[g.below(7)];
  for (const int count : seen) CHECK(std::abs(count - 1000) < 150);

  std::vector<int> items{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const auto sorted = items;
  g.shuffle(items);
  CHECK(items != sorted);
  std::sort(items.begin(), items.end());
  CHECK(items == sorted);
}
