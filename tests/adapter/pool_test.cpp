// SPDX-License-Identifier: MIT
#include <crayon/adapter/pool.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

#include "../catch.hpp"
#include "random_adapter.hpp"

using namespace crayon;
using namespace crayon_test;
using adapter::lora_adapter;
using adapter::pool;
using adapter::site_shape;

TEMPLATE_TEST_CASE("a pool gives every adapter back bit by bit", "", float, bf16, f16) {
  rng random(3);
  constexpr std::size_t line = alignment / sizeof(TestType);
  for (int repeat = 0; repeat < 40; ++repeat) {
    const auto shapes = random_shapes(random);
    std::vector<lora_adapter<TestType>> adapters;
    for (std::size_t k = 1 + random.below(6); k > 0; --k) {
      adapters.push_back(random_adapter<TestType>(shapes, random));
    }
    const std::size_t tile = line * (1 + random.below(8));
    const auto p = pool<TestType>::build(adapters, {}, {}, tile);
    REQUIRE(p);
    REQUIRE(p->size() == adapters.size());
    REQUIRE(p->shapes() == shapes);
    for (std::size_t k = 0; k < adapters.size(); ++k) CHECK(same(p->extract(k), adapters[k]));
  }
}

TEST_CASE("the tiles of all adapters lie side by side, padded with zeros") {
  const std::vector<site_shape> shapes{{"m", 3, 10, 2, 1.0F}};
  std::vector<lora_adapter<float>> adapters(3, lora_adapter<float>(shapes));
  for (std::size_t k = 0; k < 3; ++k) {
    for (std::size_t j = 0; j < 20; ++j) {
      adapters[k].a(0).data[j] = static_cast<float>(100 * (k + 1) + j);
    }
  }
  const auto p = pool<float>::build(adapters, {}, {}, 16);
  REQUIRE(p);
  const auto a = p->a(0);
  REQUIRE(a.tiles() == 2);
  CHECK(a.size() == 96);
  CHECK(a.length(0) == 16);
  CHECK(a.length(1) == 4);
  CHECK(a.data[0] == 100);
  CHECK(a.data[15] == 115);
  CHECK(a.data[16] == 200);  // the first tile of adapter 1
  CHECK(a.data[48] == 116);  // the second tile of adapter 0
  CHECK(a.data[52] == 0);
  CHECK(a.at(1, 2)[3] == 319);
  CHECK(reinterpret_cast<std::uintptr_t>(a.data) % alignment == 0);
  CHECK(p->b(0).data == a.data + a.size());
  CHECK(p->bytes() == (96 + 48) * sizeof(float));
}

TEST_CASE("factors are copied into rows of any stride") {
  rng random(4);
  const std::vector<site_shape> shapes{{"m", 37, 23, 5, 1.0F}};
  const std::vector<lora_adapter<float>> adapters{random_adapter<float>(shapes, random),
                                                  random_adapter<float>(shapes, random)};
  const auto p = pool<float>::build(adapters, {}, {}, 16);
  REQUIRE(p);
  std::vector<float> memory(37 * 8, -1);
  p->copy_b(1, 0, {memory.data(), 37, 5, 8});
  for (std::size_t r = 0; r < 37; ++r) {
    for (std::size_t c = 0; c < 8; ++c) {
      REQUIRE(memory[r * 8 + c] == (c < 5 ? adapters[1].factors(0).b(r, c) : -1));
    }
  }
}

TEST_CASE("adapters that differ do not enter one pool, and the error names both shapes") {
  const site_shape q{"q", 4, 6, 2, 0.5F};
  const site_shape v{"v", 4, 6, 2, 0.5F};
  const auto error_of = [&](std::vector<site_shape> second) {
    const std::vector<lora_adapter<float>> adapters{lora_adapter<float>({q, v}),
                                                    lora_adapter<float>(std::move(second))};
    adapter::pool_info info;
    info.names = {"first", "second"};
    const auto p = pool<float>::build(adapters, {}, info);
    REQUIRE(!p);
    CHECK(p.error().code == errc::bad_shape);
    return p.error().text;
  };
  CHECK(error_of({q}) == "second has no module v, which the others have");
  CHECK(error_of({q, {"k", 4, 6, 2, 0.5F}}) == "second has no module v, which the others have");
  CHECK(error_of({q, v, {"k", 4, 6, 2, 0.5F}}) == "second has module k, which the others have not");
  CHECK(
      error_of({q, {"v", 4, 7, 2, 0.5F}}) ==
      "second has v (4, 7) rank 2 scale 0.500000, the others have v (4, 6) rank 2 scale 0.500000");
  CHECK(
      error_of({q, {"v", 4, 6, 3, 0.5F}}) ==
      "second has v (4, 6) rank 3 scale 0.500000, the others have v (4, 6) rank 2 scale 0.500000");
  CHECK(
      error_of({q, {"v", 4, 6, 2, 1.0F}}) ==
      "second has v (4, 6) rank 2 scale 1.000000, the others have v (4, 6) rank 2 scale 0.500000");
}

TEST_CASE("the order of an adapter's sites does not matter") {
  rng random(5);
  const site_shape q{"q", 4, 6, 2, 0.5F};
  const site_shape v{"v", 5, 6, 2, 0.5F};
  const auto x = random_adapter<float>({v, q}, random);
  const std::vector<lora_adapter<float>> adapters{lora_adapter<float>({q, v}), x};
  const auto p = pool<float>::build(adapters, {}, {});
  REQUIRE(p);
  const auto back = p->extract(1);
  CHECK(delta(back.factors(0)) == delta(x.factors(1)));
  CHECK(delta(back.factors(1)) == delta(x.factors(0)));
}

TEST_CASE("index vectors, names and centre are checked") {
  const std::vector<lora_adapter<float>> adapters(2, lora_adapter<float>({{"q", 4, 6, 2, 0.5F}}));
  const std::vector<float> index{1, 0, 0, 0.6F, 0.8F, 0};
  const matrix_view<const float> rows(index.data(), 2, 3);
  adapter::pool_info info;
  info.centre = {0, 0, 1};
  const auto p = pool<float>::build(adapters, rows, info);
  REQUIRE(p);
  CHECK(p->index(1)[1] == 0.8F);
  CHECK(p->index().rows == 2);
  CHECK(p->info().names == std::vector<std::string>{"adapter-0", "adapter-1"});

  const auto error_of = [&](matrix_view<const float> m, const adapter::pool_info& i) {
    const auto bad = pool<float>::build(adapters, m, i);
    REQUIRE(!bad);
    return bad.error().text;
  };
  CHECK(error_of(matrix_view<const float>(index.data(), 1, 3), info) ==
        "2 adapters, but 1 index vectors");
  CHECK(error_of(matrix_view<const float>(index.data() + 1, 2, 2), {}) ==
        "index vector of adapter-0 has length 0.000000, needs 1");
  info.centre.pop_back();
  CHECK(error_of(rows, info) == "index vectors of length 3, but a centre of 2");
  info = {};
  info.names = {"only"};
  CHECK(error_of(rows, info) == "2 adapters, but 1 names");
  std::vector<float> nan = index;
  nan[4] = std::nanf("");
  CHECK(error_of({nan.data(), 2, 3}, {}) == "index vector of adapter-1 has length nan, needs 1");
  CHECK_FALSE(pool<float>::build(std::span<const lora_adapter<float>>{}, {}, {}));
  CHECK_FALSE(pool<float>::build(adapters, {}, {}, 17));
}
