// SPDX-License-Identifier: MIT
#include <crayon/match/uniform.hpp>

#include <vector>

#include "../catch.hpp"

using namespace crayon;

TEST_CASE("uniform weights look at nothing but the number of adapters") {
  const std::vector<float> index(8);
  const auto w = match::uniform{}.weights({index.data(), 4, 2}, {});
  CHECK(w == std::vector<float>(4, 0.25F));
}
