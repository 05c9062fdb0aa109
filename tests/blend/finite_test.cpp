// SPDX-License-Identifier: MIT
#include <crayon/blend/finite.hpp>

#include <limits>
#include <string>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>

#include "../catch.hpp"

using namespace crayon;

namespace {

adapter::lora_adapter<f16> constant_adapter(float a, float b) {
  adapter::lora_adapter<f16> made({{"p", 2, 3, 1, 1.0F}, {"q", 3, 2, 1, 1.0F}});
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t j = 0; j < made.a(i).size(); ++j) made.a(i).data[j] = from_float<f16>(a);
    for (std::size_t j = 0; j < made.b(i).size(); ++j) made.b(i).data[j] = from_float<f16>(b);
  }
  return made;
}

}  // namespace

TEST_CASE("a blend that f16 cannot hold is refused by site and adapter") {
  std::vector<adapter::lora_adapter<f16>> adapters{constant_adapter(1, 2), constant_adapter(1, 2)};
  adapters[1].b(1)(2, 0) = from_float<f16>(30000);
  const auto pool = adapter::pool<f16>::build(adapters, {}, {});
  REQUIRE(pool);
  const auto blended = [&](float x, float y) {
    return blend::linear<>::blend(*pool, std::vector<weighted_slot>{{0, x}, {1, y}});
  };
  CHECK(blended(0.5F, 0.5F));
  CHECK(blended(1.0F, 2.0F));  // 60002 fits
  CHECK(blended(1.0F, 3.0F).error().text ==
        "adapter 1 with weight 3.000000 makes the blend at q too large for F16");
  CHECK(blend::concat::blend(*pool, std::vector<weighted_slot>{{0, 1.0F}, {1, 2.0F}}));
  const auto joined = blend::concat::blend(*pool, std::vector<weighted_slot>{{0, 1}, {1, 3}});
  REQUIRE(!joined);
  CHECK(joined.error().text.find(" q") != std::string::npos);
  CHECK(joined.error().text.find("adapter 1") != std::string::npos);
}

TEST_CASE("sums that cannot grow are known by their weights") {
  CHECK(blend::cannot_grow(std::vector<weighted_slot>{{0, 0.25F}, {1, 0.75F}}));
  CHECK(blend::cannot_grow(std::vector<weighted_slot>{{0, 0.5F}, {1, -0.5F}}));
  CHECK_FALSE(blend::cannot_grow(std::vector<weighted_slot>{{0, 1.0F}, {1, -0.5F}}));
  CHECK(blend::is_finite(65504));
  CHECK_FALSE(blend::is_finite(std::numeric_limits<float>::infinity()));
  CHECK_FALSE(blend::is_finite(std::numeric_limits<float>::quiet_NaN()));
}
