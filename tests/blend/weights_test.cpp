// SPDX-License-Identifier: MIT
#include <crayon/blend/weights.hpp>

#include <limits>
#include <string>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/pool.hpp>

#include "../catch.hpp"

using namespace crayon;

namespace {

constexpr auto weight_number = [](std::size_t slot) { return "adapter " + std::to_string(slot); };

}  // namespace

TEST_CASE("weight i is for adapter i") {
  const std::vector<float> w{0.25F, 0, 0.75F};
  const auto slots = blend::slots_of(w);
  REQUIRE(slots.size() == 3);
  CHECK(slots[2].slot == 2);
  CHECK(slots[2].weight == 0.75F);
  CHECK(blend::check_weights(3, slots, weight_number));
}

TEST_CASE("weights below a limit are left out, unless that is all of them") {
  const std::vector<float> w{0.5F, 1e-5F, -1e-5F, -0.5F, 1e-4F, 0};
  const auto slots = blend::slots_of(w, 1e-4F);
  REQUIRE(slots.size() == 3);
  CHECK(slots[0].slot == 0);
  CHECK(slots[1].slot == 3);
  CHECK(slots[1].weight == -0.5F);
  CHECK(slots[2].slot == 4);  // at the limit
  CHECK(blend::slots_of(w, 1).size() == w.size());
  CHECK(blend::slots_of({}, 1).empty());
  // Not a small weight: it stays, and check_weights refuses it.
  const std::vector<float> nan{1, std::numeric_limits<float>::quiet_NaN()};
  CHECK(blend::slots_of(nan, 1e-4F).size() == 2);
}

TEST_CASE("weights that no policy takes are refused by slot and value") {
  const auto error_of = [](std::vector<weighted_slot> weights) {
    const auto checked = blend::check_weights(3, weights, weight_number);
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

TEST_CASE("an adapter that has a name is called by it") {
  const std::vector<adapter::lora_adapter<float>> two(
      2, adapter::lora_adapter<float>({{"q", 2, 3, 1, 1.0F}}));
  const std::vector<weighted_slot> bad{{0, 1.0F}, {1, std::numeric_limits<float>::infinity()}};
  const auto set = *adapter::adapter_set<float>::build(two, {"home/dates", "home/numbers"});
  CHECK(blend::check_weights(set, bad).error().text ==
        "weight of home/numbers is inf, needs a finite number");
  adapter::pool_info info;
  info.names = {"dates", "numbers"};
  const auto pool = *adapter::pool<float>::build(two, {}, info);
  CHECK(blend::who(pool, 1) == "numbers");
  CHECK(blend::who(*adapter::pool<float>::build(two, {}, {}), 1) == "adapter 1");
  CHECK(blend::who(*adapter::adapter_set<float>::build(two), 1) == "adapter 1");
}
