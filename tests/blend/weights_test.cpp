// SPDX-License-Identifier: MIT
#include <crayon/blend/weights.hpp>

#include <limits>
#include <vector>

#include "../catch.hpp"

using namespace crayon;

TEST_CASE("weight i is for adapter i") {
  const std::vector<float> w{0.25F, 0, 0.75F};
  const auto slots = blend::slots_of(w);
  REQUIRE(slots.size() == 3);
  CHECK(slots[2].slot == 2);
  CHECK(slots[2].weight == 0.75F);
  CHECK(blend::check_weights(3, slots));
}

TEST_CASE("weights that no policy takes are refused by slot and value") {
  const auto error_of = [](std::vector<weighted_slot> weights) {
    const auto checked = blend::check_weights(3, weights);
    REQUIRE(!checked);
    CHECK(checked.error().code == errc::bad_value);
    return checked.error().text;
  };
  CHECK(error_of({}) == "a blend of no adapters: no weights given");
  CHECK(error_of({{0, 1}, {3, 1}}) == "weight for adapter 3, there are 3");
  CHECK(error_of({{1, 0.5F}, {0, 1}, {1, 2}}) ==
        "adapter 1 has two weights, 0.500000 and 2.000000");
  CHECK(error_of({{0, std::numeric_limits<float>::quiet_NaN()}}) ==
        "weight of adapter 0 is nan, needs a finite number");
  CHECK(error_of({{2, -std::numeric_limits<float>::infinity()}}) ==
        "weight of adapter 2 is -inf, needs a finite number");
}
