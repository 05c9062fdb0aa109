// SPDX-License-Identifier: MIT
#include <crayon/blend/recorded.hpp>

#include <cstring>
#include <vector>

#include "../adapter/random_pool.hpp"
#include "../catch.hpp"

using namespace crayon;

namespace {

template <class A>
bool same_adapter(const A& a, const A& b) {
  if (a.shapes() != b.shapes()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto f = a.factors(i), g = b.factors(i);
    if (std::memcmp(f.a.data, g.a.data, f.a.size() * sizeof(float)) != 0) return false;
    if (std::memcmp(f.b.data, g.b.data, f.b.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("the recorded blend is the one that the pool names") {
  rng random(4);
  const auto shapes = crayon_test::random_shapes(random);
  std::vector<adapter::lora_adapter<float>> all;
  for (int k = 0; k < 3; ++k) all.push_back(crayon_test::random_adapter<float>(shapes, random));
  const std::vector<weighted_slot> weights{{0, 0.25F}, {2, 0.75F}};
  const auto pool_for = [&](std::string name) {
    adapter::pool_info info;
    info.blend = std::move(name);
    return *adapter::pool<float>::build(all, matrix_view<const float>{}, info);
  };
  const auto plain = pool_for("");
  const auto averaged = *blend::linear<>::blend(plain, weights);
  const auto exact_sum = *blend::concat::blend(plain, weights);
  CHECK(same_adapter(*blend::recorded<>::blend(pool_for("linear"), weights), averaged));
  for (const char* exact : {"", "concat", "activations"}) {
    CHECK(same_adapter(*blend::recorded<>::blend(pool_for(exact), weights), exact_sum));
  }
  const auto other = blend::recorded<>::blend(pool_for("ties"), weights);
  REQUIRE_FALSE(other);
  CHECK(other.error().code == errc::unsupported);
}
