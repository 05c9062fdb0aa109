// SPDX-License-Identifier: MIT
#include <crayon/adapter/scaling.hpp>

#include <cmath>

#include "../catch.hpp"

using namespace crayon;
using adapter::scaling_rule;

TEST_CASE("the scale is alpha / r, or alpha / sqrt(r) with rsLoRA") {
  CHECK(adapter::lora_scale(16, 8, false) == 2.0F);
  CHECK(adapter::lora_scale(1, 3, false) == 1.0F / 3.0F);
  CHECK(adapter::lora_scale(8, 16, true) == 2.0F);
  CHECK(adapter::lora_scale(6, 3, true) == static_cast<float>(6 / std::sqrt(3.0)));
}

TEST_CASE("the first pattern that matches replaces rank or alpha") {
  scaling_rule rule{8, 16, false, {{"v_proj", 4}, {R"(layers\.0.*)", 2}}, {{"^a.v_proj", 6}}};
  CHECK(rule.at("layers.1.q_proj")->rank == 8);
  CHECK(rule.at("layers.1.q_proj")->scale == 2);
  CHECK(rule.at("layers.0.v_proj")->rank == 4);
  CHECK(rule.at("layers.0.q_proj")->rank == 2);
  CHECK(rule.at("layers.0.q_proj")->scale == 8);
  CHECK(rule.at("a.v_proj")->scale == 1.5F);
  CHECK(rule.at("b.a.v_proj")->scale == 4);
  rule.rslora = true;
  CHECK(rule.at("a.v_proj")->scale == 3);
}

TEST_CASE("rank 0 and patterns that are not understood are errors") {
  const scaling_rule zero{8, 16, false, {{"v", 0}}, {}};
  CHECK(zero.at("v").error().text == "rank 0 at v");
  CHECK(zero.at("q"));
  const scaling_rule ahead{8, 16, false, {}, {{"(?!v)q", 1}}};
  CHECK(ahead.at("q").error().code == errc::unsupported);
}
