// SPDX-License-Identifier: MIT
#include <crayon/core/result.hpp>

#include <string>

#include "../catch.hpp"

namespace {

crayon::result<int> half(int x) {
  if (x % 2 != 0) return crayon::error{crayon::errc::bad_value, std::to_string(x) + " is odd"};
  return x / 2;
}

crayon::result<int> quarter(int x) {
  CRAYON_TRY(const int h, half(x));
  return half(h);
}

crayon::result<void> divisible(int x) {
  CRAYON_CHECK(quarter(x));
  return {};
}

}  // namespace

TEST_CASE("a result is a value or an error") {
  REQUIRE(half(4));
  CHECK(*half(4) == 2);
  REQUIRE_FALSE(half(3));
  CHECK(half(3).error().text == "3 is odd");
  CHECK(half(3).error().code == crayon::errc::bad_value);
}

TEST_CASE("an error travels up through CRAYON_TRY and CRAYON_CHECK") {
  CHECK(*quarter(12) == 3);
  CHECK(quarter(6).error().text == "3 is odd");
  CHECK(quarter(5).error().text == "5 is odd");
  CHECK(divisible(8));
  CHECK(divisible(6).error().text == "3 is odd");
}
