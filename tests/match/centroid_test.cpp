// SPDX-License-Identifier: MIT
#include <crayon/match/centroid.hpp>

#include <vector>

#include "../catch.hpp"

using namespace crayon;

TEST_CASE("weights are shares of votes") {
  const std::vector<float> index{1, 0, 0, 1, -1, 0};
  const std::vector<float> samples{0.8F, 0.6F, 0.6F, 0.8F, 0.28F, 0.96F, -0.6F, -0.8F};
  const auto w = match::centroid{}.weights({index.data(), 3, 2}, {samples.data(), 4, 2});
  CHECK(w == std::vector<float>{0.25F, 0.5F, 0.25F});
  // As far from the first as from the second: the first has it.
  const std::vector<float> middle{0.70710678F, 0.70710678F};
  CHECK(match::centroid{}.weights({index.data(), 3, 2}, {middle.data(), 1, 2}) ==
        std::vector<float>{1, 0, 0});
}
