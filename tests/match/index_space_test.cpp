// SPDX-License-Identifier: MIT
#include <crayon/match/index_space.hpp>

#include <vector>

#include "../catch.hpp"

using namespace crayon;

TEST_CASE("without centre and projection a vector is normalised") {
  const match::index_space space;
  const std::vector<float> x{3, 4};
  std::vector<float> f(2);
  CHECK(space.size(2) == 2);
  space.place(x, f);
  CHECK(f[0] == Approx(0.6));
  CHECK(f[1] == Approx(0.8));
}

TEST_CASE("the centre goes first, then the projection, then the length") {
  match::index_space space;
  space.centre = {2, 4};
  const std::vector<float> x{5, 8};
  std::vector<float> f(2), g(1);
  space.place(x, f);
  CHECK(f[0] == Approx(0.6));
  CHECK(f[1] == Approx(0.8));
  space.projection = {0, -2};
  CHECK(space.size(2) == 1);
  space.place(x, g);
  CHECK(g[0] == Approx(-1));
}

TEST_CASE("one group is placed around its mean, unless nothing is left of it there") {
  const std::vector<float> spread{0, 0, 0, 4, 6, 2}, equal{3, 4, 3, 4};
  const auto space = match::space_around_mean({spread.data(), 3, 2});
  CHECK(space.centre == std::vector<float>{2, 2});
  CHECK(space.projection.empty());
  CHECK(match::space_around_mean({equal.data(), 2, 2}).centre.empty());
  CHECK(match::space_around_mean({equal.data(), 1, 2}).centre.empty());
}

TEST_CASE("what is not known stays at the centre") {
  match::index_space space;
  space.centre = {1, 1};
  const std::vector<float> x{4, 100};
  std::vector<float> f(2);
  space.place(x, 1, f);
  CHECK(f == std::vector<float>{1, 0});
  space.projection = {3, 1, 4, 1};
  space.place(x, 1, f);  // (9, 12) / 15
  CHECK(f[0] == Approx(0.6));
  CHECK(f[1] == Approx(0.8));
}

TEST_CASE("centroids are mean directions") {
  const std::vector<float> rows{3, 0, 0, 4, 0, -2};
  const std::vector<std::size_t> group{0, 0, 2};
  const auto made = match::centroids({rows.data(), 3, 2}, group, 3);
  CHECK(made[0] == Approx(0.6));
  CHECK(made[1] == Approx(0.8));
  CHECK(made[2] == 0);
  CHECK(made[3] == 0);
  CHECK(made[4] == 0);
  CHECK(made[5] == -1);
}
