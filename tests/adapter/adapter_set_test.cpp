// SPDX-License-Identifier: MIT
#include <crayon/adapter/adapter_set.hpp>

#include <vector>

#include "../catch.hpp"
#include "random_adapter.hpp"

using namespace crayon;
using namespace crayon_test;
using adapter::adapter_set;
using adapter::lora_adapter;

TEST_CASE("a set has the union of the sites, rank 0 where an adapter has none") {
  rng random(6);
  std::vector<lora_adapter<float>> adapters;
  adapters.push_back(random_adapter<float>({{"q", 4, 6, 2, 0.5F}, {"v", 3, 6, 1, 2}}, random));
  adapters.push_back(random_adapter<float>({{"up", 8, 6, 3, 1}, {"q", 4, 6, 5, 4}}, random));
  const auto first = adapters[0].factors(1);
  const std::vector<float> v(first.b.data, first.b.data + 3);
  const auto set = adapter_set<float>::build(std::move(adapters), {"one"});
  REQUIRE(set);
  REQUIRE(set->sites() == 3);
  CHECK(set->names() == std::vector<std::string>{"one", "adapter-1"});
  CHECK(set->module(1) == "v");
  CHECK(set->module(2) == "up");
  CHECK(set->rank(0, 0) == 2);
  CHECK(set->rank(1, 0) == 5);
  CHECK(set->rank(1, 1) == 0);
  CHECK(set->rank(0, 2) == 0);
  CHECK(set->scale(1, 0) == 4);
  CHECK(set->out(2) == 8);
  CHECK(set->in(2) == 6);
  std::vector<float> copied(3);
  set->copy_b(0, 1, {copied.data(), 3, 1});
  CHECK(copied == v);
}

TEST_CASE("one module with two shapes is an error that names both adapters") {
  std::vector<lora_adapter<float>> adapters;
  adapters.emplace_back(std::vector<adapter::site_shape>{{"q", 4, 6, 2, 0.5F}});
  adapters.emplace_back(std::vector<adapter::site_shape>{{"q", 4, 8, 2, 0.5F}});
  const auto set = adapter_set<float>::build(std::move(adapters), {"a", "b"});
  REQUIRE(!set);
  CHECK(set.error().text == "b has q (4, 8), a has it (4, 6)");
  CHECK_FALSE(adapter_set<float>::build({}));
}
