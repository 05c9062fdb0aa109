// SPDX-License-Identifier: MIT
#include <crayon/engine/router_binding.hpp>

#include <string>
#include <vector>

#include <crayon/engine/base_model.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

using namespace crayon;
using test::tiny_config;

TEST_CASE("a binding tells models, adapters, pools and templates apart", "[engine]") {
  const auto weights = test::tiny_weights(1);
  const engine::base_model<tiny_config> base{weights, {}, weights.hash()};
  const auto alone = engine::binding_of(base);
  CHECK(alone.model == weights.hash());
  CHECK(alone.quantisation == "F32");
  CHECK(alone.adapter == router::binding::none);
  CHECK(alone.blend == router::binding::none);
  CHECK(alone.domains == router::binding::none);

  const auto adapter = test::tiny_adapter(weights.config(), 3);
  auto bound = engine::binding_of(base, adapter);
  CHECK(bound.adapter != router::binding::none);
  CHECK(bound == engine::binding_of(base, test::tiny_adapter(weights.config(), 3)));
  for (const bool of_a : {true, false}) {
    auto other = adapter;
    (of_a ? other.a(1) : other.b(1)).data[0] += 1;
    CHECK(engine::binding_of(base, other).adapter != bound.adapter);
  }
  bound.adapter = alone.adapter;
  CHECK(bound == alone);  // nothing else is of the adapter

  const auto pool = test::tiny_pool(weights);
  const std::string blend = engine::blend_of<tiny_config>(pool);
  CHECK(blend.starts_with("concat of "));
  CHECK(blend == engine::blend_of<tiny_config>(test::tiny_pool(weights)));
  CHECK(blend != engine::blend_of<tiny_config>(test::tiny_pool(weights, {}, 2)));
  CHECK(engine::template_hash("Q: {} A:") != engine::template_hash("Q: {}"));
}

TEST_CASE("an engine has room for the model's context, and for no more", "[engine]") {
  const engine::base_model<tiny_config> base{test::tiny_weights(1, 5000), {}, ""};
  CHECK(*base.context(0) == engine::default_context);
  CHECK(*base.context(5000) == 5000);
  CHECK(base.context(5001).error().text == "a context of 5001 tokens, the model's is 5000");
  const engine::base_model<tiny_config> small{test::tiny_weights(1, 40), {}, ""};
  CHECK(*small.context(0) == 40);
}
