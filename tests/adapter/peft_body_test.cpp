// SPDX-License-Identifier: MIT
#include <crayon/adapter/peft_body.hpp>

#include <cstring>
#include <string>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_adapter.hpp"

using namespace crayon;

TEST_CASE("an adapter in one piece is the one that the directory has") {
  rng random(3);
  const auto made = crayon_test::random_adapter<float>(crayon_test::random_shapes(random), random);
  adapter::peft_info info;
  info.base_model = "base";
  info.base_hash = "00ff";
  const auto body = adapter::peft_body("here", made, info);
  REQUIRE(body);
  const auto read = adapter::read_peft_body<float>("there", *body);
  REQUIRE(read);
  CHECK(read->info.base_model == "base");
  CHECK(read->info.base_hash == "00ff");

  // Saved under PEFT's names, the body and the text in its metadata are a PEFT directory.
  const crayon_test::scratch dir;
  REQUIRE(adapter::save_peft(dir / "saved", made, info));
  const auto saved = adapter::load_peft<float>(dir / "saved");
  REQUIRE(saved);
  crayon_test::put(dir / "adapter_model.safetensors", *body);
  const auto file = io::safetensors::open(dir / "adapter_model.safetensors");
  REQUIRE(file);
  crayon_test::put(dir / "adapter_config.json", file->metadata().at("adapter_config"));
  const auto by_hand = adapter::load_peft<float>(dir.path());
  REQUIRE(by_hand);
  for (const auto* one : {&read->adapter, &saved->adapter, &by_hand->adapter}) {
    REQUIRE(one->size() == made.size());
    for (std::size_t i = 0; i < made.size(); ++i) {
      const auto at = one->find(made.module(i));
      REQUIRE(at);
      CHECK(one->shape(*at) == made.shape(i));
      const auto expected = made.factors(i), got = one->factors(*at);
      CHECK(std::memcmp(expected.a.data, got.a.data, expected.a.size() * sizeof(float)) == 0);
      CHECK(std::memcmp(expected.b.data, got.b.data, expected.b.size() * sizeof(float)) == 0);
    }
  }
  CHECK(crayon_test::get(dir / "adapter_config.json") ==
        crayon_test::get(dir / "saved/adapter_config.json"));

  const auto cut = adapter::read_peft_body<float>("there", body->substr(0, body->size() - 1));
  REQUIRE_FALSE(cut);
  CHECK(cut.error().text.starts_with("there: "));
  CHECK_FALSE(adapter::read_peft_body<float>("there", ""));
  CHECK_FALSE(adapter::read_peft_body<float>("there", "<html>not found</html>"));
  const auto plain = io::safetensors_bytes("x", {});
  const auto none = adapter::read_peft_body<float>("there", *plain);
  REQUIRE_FALSE(none);
  CHECK(none.error().text == "there: no adapter_config in the metadata");
}
