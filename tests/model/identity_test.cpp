// SPDX-License-Identifier: MIT
#include <crayon/model/identity.hpp>

#include <string>
#include <vector>

#include "../catch.hpp"
#include "fixture.hpp"

using namespace crayon;

TEST_CASE("the same weights under another configuration are another model", "[model]") {
  const auto config = small_config();
  const std::string same = model::identity(config, "00ff");
  CHECK(model::identity(config, "00ff") == same);
  CHECK(model::identity(config, "00fe") != same);
  auto changed = [&](auto&& change) {
    auto other = config;
    change(other);
    return model::identity(other, "00ff");
  };
  CHECK(changed([](auto& c) { c.heads *= 2, c.head_dim /= 2; }) != same);
  CHECK(changed([](auto& c) { c.rope_theta *= 2; }) != same);
  CHECK(changed([](auto& c) { c.norm_epsilon *= 2; }) != same);
  CHECK(changed([](auto& c) { c.context += 1; }) != same);
  CHECK(changed([](auto& c) { c.tied = !c.tied; }) != same);
  CHECK(changed([](auto& c) { c.scaling.factor = 8; }) != same);
}
