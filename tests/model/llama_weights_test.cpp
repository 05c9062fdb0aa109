// SPDX-License-Identifier: MIT
#include <crayon/model/llama_weights.hpp>

#include <algorithm>
#include <string>

#include "../catch.hpp"
#include "fixture.hpp"

using namespace crayon;

TEST_CASE("the same weights run in another way are another model", "[model]") {
  const auto weights = random_weights<float>(small_config());
  const std::string same = weights.hash();
  const auto changed = [&](auto&& change) {
    auto config = small_config();
    change(config);
    model::llama_weights<float> other(config);
    REQUIRE(other.matrices().size() == weights.matrices().size());
    std::ranges::copy(weights.matrices(), other.matrices().begin());
    std::ranges::copy(weights.norms(), other.norms().begin());
    return other.hash();
  };
  CHECK(changed([](auto&) {}) == same);
  CHECK(changed([](auto& c) { c.context += 1; }) == same);  // the same function, longer
  CHECK(changed([](auto& c) { c.heads *= 2, c.kv_heads *= 2, c.head_dim /= 2; }) != same);
  CHECK(changed([](auto& c) { c.rope_theta *= 2; }) != same);
  CHECK(changed([](auto& c) { c.norm_epsilon *= 2; }) != same);
  CHECK(changed([](auto& c) { c.scaling.factor = 8; }) != same);
  CHECK(changed([](auto& c) { c.scaling.original_context = 8; }) != same);

  auto moved = weights;
  moved.matrices().back() += 1;
  CHECK(moved.hash() != same);
  moved = weights;
  moved.norms().front() += 1;
  CHECK(moved.hash() != same);
}
