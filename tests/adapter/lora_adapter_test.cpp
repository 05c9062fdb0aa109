// SPDX-License-Identifier: MIT
#include <crayon/adapter/lora_adapter.hpp>

#include <cstdint>

#include "../catch.hpp"
#include "random_adapter.hpp"

using namespace crayon;

TEMPLATE_TEST_CASE("an adapter starts as no change, each factor on a cache line", "", float, bf16,
                   f16) {
  rng random(1);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const auto shapes = crayon_test::random_shapes(random);
    adapter::lora_adapter<TestType> adapter(shapes);
    REQUIRE(adapter.size() == shapes.size());
    std::size_t elements = 0;
    for (std::size_t i = 0; i < adapter.size(); ++i) {
      const auto f = adapter.factors(i);
      CHECK(f.a.rows == shapes[i].rank);
      CHECK(f.a.cols == shapes[i].in);
      CHECK(f.b.rows == shapes[i].out);
      CHECK(f.b.cols == shapes[i].rank);
      CHECK(f.scale == shapes[i].scale);
      CHECK(reinterpret_cast<std::uintptr_t>(f.a.data) % alignment == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(f.b.data) % alignment == 0);
      CHECK(crayon_test::norm(crayon_test::delta(f)) == 0);
      elements += f.a.size() + f.b.size();
      CHECK(adapter.find(adapter.module(i)) == i);
    }
    CHECK(adapter.bytes() == elements * sizeof(TestType));
    CHECK_FALSE(adapter.find("layers.q_proj"));
  }
}

TEST_CASE("the factors of different sites do not overlap") {
  rng random(2);
  auto adapter = crayon_test::random_adapter<bf16>(crayon_test::random_shapes(random), random);
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    for (auto m : {adapter.a(i), adapter.b(i)}) {
      for (std::size_t j = 0; j < m.size(); ++j) {
        m.data[j] = from_float<bf16>(static_cast<float>(i + 1));
      }
    }
  }
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    const auto f = adapter.factors(i);
    for (std::size_t j = 0; j < f.a.size(); ++j) {
      REQUIRE(to_float(f.a.data[j]) == static_cast<float>(i + 1));
    }
    for (std::size_t j = 0; j < f.b.size(); ++j) {
      REQUIRE(to_float(f.b.data[j]) == static_cast<float>(i + 1));
    }
  }
}
