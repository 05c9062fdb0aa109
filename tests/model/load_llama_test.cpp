// SPDX-License-Identifier: MIT
#include <crayon/model/load_llama.hpp>

#include "../io/scratch.hpp"
#include "fixture.hpp"

using namespace crayon;

TEST_CASE("a model loads from either format to the same weights", "[model]") {
  const crayon_test::scratch dir;
  const auto weights = random_weights<float>(small_config());
  REQUIRE(model::write_llama2c(dir / "m.bin", weights));
  REQUIRE(model::write_hf_llama(dir / "m", weights));
  const auto file = model::load_llama<float>(dir / "m.bin");
  const auto directory = model::load_llama<float>(dir / "m");
  REQUIRE(file);
  REQUIRE(directory);
  CHECK(file->hash() == directory->hash());
  const auto missing = model::load_llama<float>(dir / "other");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().text == "cannot open " + (dir / "other") + ": No such file or directory");
}
