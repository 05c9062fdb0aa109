// SPDX-License-Identifier: MIT
#include <crayon/serve/adapter_shelf.hpp>

#include <memory>
#include <string>
#include <vector>

#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"
#include "../engine/tiny.hpp"

namespace adapter_shelf_test {

using namespace crayon;
using shelf = serve::adapter_shelf<float, simd::scalar>;

std::vector<adapter::lora_adapter<float>> three() {
  const auto config = test::tiny_weights(1).config();
  return {test::tiny_adapter(config, 1), test::tiny_adapter(config, 2),
          test::tiny_adapter(config, 3)};
}

TEST_CASE("a shelf hands out one object per adapter and per mix, the last mixes only", "[serve]") {
  const auto made = shelf::make(three(), {"a", "b", "c"}, nullptr, 2);
  REQUIRE(made);
  shelf& all = **made;
  CHECK(all.own() == nullptr);
  const auto a = all.get("a");
  REQUIRE(a);
  CHECK(*a == *all.get("a"));
  CHECK(*a != *all.get("b"));
  const auto first = *all.blend({{"a", 0.5F}, {"b", 0.5F}});
  const auto second = *all.blend({{"a", 0.5F}, {"b", 0.25F}});
  CHECK(first != second);
  CHECK(first != *a);
  CHECK(*all.blend({{"a", 0.5F}, {"b", 0.5F}}) == first);
  const auto third = *all.blend({{"c", 1.0F}});  // the second was asked for longest ago
  CHECK(*all.blend({{"a", 0.5F}, {"b", 0.5F}}) == first);
  CHECK(*all.blend({{"a", 0.5F}, {"b", 0.25F}}) != second);
  CHECK(*all.blend({{"c", 1.0F}}) != third);
}

TEST_CASE("what a shelf does not have is an error that names it", "[serve]") {
  const auto made = shelf::make(three(), {"a", "b", "c"});
  REQUIRE(made);
  const auto unknown = (*made)->get("d");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == errc::not_found);
  CHECK(unknown.error().text.find("\"d\"") != std::string::npos);
  const auto mixed = (*made)->blend({{"a", 0.5F}, {"e", 0.5F}});
  REQUIRE_FALSE(mixed);
  CHECK(mixed.error().code == errc::not_found);
  CHECK(mixed.error().text.find("\"e\"") != std::string::npos);
  const auto empty = shelf::make({}, {});
  REQUIRE(empty);
  CHECK_FALSE((*empty)->get("a"));
}

TEST_CASE("adapters of different shapes do not share a shelf", "[serve]") {
  auto config = test::tiny_weights(1).config();
  std::vector<adapter::lora_adapter<float>> two{test::tiny_adapter(config, 1)};
  config.hidden *= 2;
  two.push_back(test::tiny_adapter(config, 2));
  CHECK_FALSE(shelf::make(std::move(two), {"a", "b"}));
}

}  // namespace adapter_shelf_test
