// SPDX-License-Identifier: MIT
#include <crayon/adapter/peft_set.hpp>

#include <string>
#include <vector>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_adapter.hpp"

TEST_CASE("directories that belong together are one set, in their order") {
  using namespace crayon;
  const crayon_test::scratch at;
  const std::string one = at / "one", two = at / "two", three = at / "three";
  rng random(1);
  const auto shapes = [](std::size_t out, std::size_t rank) {
    return std::vector<adapter::site_shape>{{"layers.0.q_proj", out, 5, rank, 0.5F}};
  };
  const auto first = crayon_test::random_adapter<float>(shapes(4, 2), random);
  const auto second = crayon_test::random_adapter<float>(shapes(4, 3), random);
  const auto taller = crayon_test::random_adapter<float>(shapes(6, 1), random);
  adapter::peft_info info;
  info.base_model = "a model";
  info.base_hash = "0123456789abcdef";
  REQUIRE(adapter::save_peft(one, first, info));
  info.base_hash.clear();  // as PEFT leaves it
  REQUIRE(adapter::save_peft(two, second, info));
  REQUIRE(adapter::save_peft(three, taller, info));

  const auto set = adapter::load_peft_set<float>({two, one});
  REQUIRE(set);
  REQUIRE(set->adapters.size() == 2);
  CHECK(crayon_test::same(set->adapters.adapter(0), second));
  CHECK(crayon_test::same(set->adapters.adapter(1), first));
  CHECK(set->adapters.names() == std::vector<std::string>{two, one});
  CHECK(set->info.base_model == "a model");
  CHECK(set->info.base_hash == "0123456789abcdef");

  CHECK(adapter::load_peft_set<float>({one, three}).error().text ==
        three + " has layers.0.q_proj (6, 5), " + one + " has it (4, 5)");
  info.base_model = "another model";
  REQUIRE(adapter::save_peft(three, first, info));
  const auto foreign = adapter::load_peft_set<float>({one, three});
  REQUIRE_FALSE(foreign);
  CHECK(foreign.error().text.starts_with(three + ": base_model_name_or_path is"));
  CHECK(foreign.error().text.find(one) != std::string::npos);
  const auto absent = adapter::load_peft_set<float>({one, at / "none"});
  REQUIRE_FALSE(absent);
  CHECK(absent.error().text.find(at / "none") != std::string::npos);
  CHECK(adapter::load_peft_set<float>({}).error().code == errc::bad_value);
}
