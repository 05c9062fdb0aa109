// SPDX-License-Identifier: MIT
#include <crayon/adapter/padded.hpp>

#include <cmath>
#include <optional>
#include <vector>

#include <crayon/adapter/pool.hpp>
#include <crayon/core/rng.hpp>

#include "../catch.hpp"

using namespace crayon;
using adapter::adapter_set;
using adapter::site_shape;

namespace {

adapter::lora_adapter<float> filled(std::vector<site_shape> shapes, std::uint64_t seed) {
  adapter::lora_adapter<float> made(std::move(shapes));
  rng random(seed);
  for (std::size_t i = 0; i < made.size(); ++i) {
    for (std::size_t j = 0; j < made.a(i).size(); ++j) made.a(i).data[j] = random.normal();
    for (std::size_t j = 0; j < made.b(i).size(); ++j) made.b(i).data[j] = random.normal();
  }
  return made;
}

/// dW at a module, zeros (out, in) where the adapter lacks it.
std::vector<double> change(const adapter::lora_adapter<float>& adapter, const site_shape& at) {
  std::vector<double> w(at.out * at.in);
  const auto site = adapter.find(at.module);
  if (!site) return w;
  const auto f = adapter.factors(*site);
  for (std::size_t r = 0; r < at.out; ++r) {
    for (std::size_t c = 0; c < at.in; ++c) {
      for (std::size_t k = 0; k < f.rank(); ++k) {
        w[r * at.in + c] += double{f.scale} * double{f.b(r, k)} * double{f.a(k, c)};
      }
    }
  }
  return w;
}

}  // namespace

TEST_CASE("mixed ranks, scales and sites become a pool, and every dW stays") {
  const std::vector<adapter::lora_adapter<float>> all{
      filled({{"one", 5, 4, 2, 0.5F}, {"two", 3, 6, 1, 2}}, 1), filled({{"two", 3, 6, 4, -3}}, 2),
      filled({{"three", 2, 2, 1, 0.1F}, {"one", 5, 4, 3, 0.3F}}, 3)};
  const auto set = adapter_set<float>::build(all);
  REQUIRE(set);
  const auto made = adapter::padded(*set);
  REQUIRE(made.size() == 3);
  const auto& shapes = made[0].shapes();
  REQUIRE(shapes.size() == 3);
  CHECK(shapes[0] == site_shape{"one", 5, 4, 3, 0.5F});
  CHECK(shapes[1] == site_shape{"two", 3, 6, 4, -3});
  CHECK(shapes[2] == site_shape{"three", 2, 2, 1, 0.1F});
  for (std::size_t k = 0; k < 3; ++k) {
    CHECK(made[k].shapes() == shapes);
    for (const auto& shape : shapes) {
      const auto was = change(all[k], shape), is = change(made[k], shape);
      for (std::size_t j = 0; j < was.size(); ++j) CHECK(is[j] == Approx(was[j]).margin(2e-6));
    }
  }
  CHECK(adapter::pool<float>::build(made, {}, {}));
  // What already agrees keeps its bits: the second adapter sets rank and scale of "two".
  for (std::size_t j = 0; j < 12; ++j) {
    CHECK(made[1].factors(1).b.data[j] == all[1].factors(0).b.data[j]);
  }
}

TEST_CASE("an adapter whose scale is zero everywhere stays nothing") {
  const auto set = adapter_set<float>::build({filled({{"one", 3, 3, 1, 0}}, 5)});
  REQUIRE(set);
  const auto made = adapter::padded(*set);
  CHECK(made[0].shape(0).scale == 0);
  CHECK(made[0].factors(0).b.data[0] == set->adapter(0).factors(0).b.data[0]);
}
