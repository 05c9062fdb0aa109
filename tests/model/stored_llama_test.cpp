// SPDX-License-Identifier: MIT
#include <crayon/model/stored_llama.hpp>

#include <filesystem>
#include <utility>

#include "../io/scratch.hpp"
#include "fixture.hpp"

using namespace crayon;

TEST_CASE("a model has the type that holds what its file has", "[model]") {
  const crayon_test::scratch dir;
  const auto weights = random_weights<bf16>(small_config());
  REQUIRE(model::write_hf_llama(dir / "bf16", weights));
  REQUIRE(model::write_hf_llama<f16>(dir / "f16", weights));
  REQUIRE(model::write_hf_llama<float>(dir / "f32", weights));
  REQUIRE(model::write_llama2c(dir / "m.bin", weights));
  for (const auto& of : {std::pair("bf16", dtype::bf16), std::pair("f16", dtype::f16),
                         std::pair("f32", dtype::f32), std::pair("m.bin", dtype::f32)}) {
    const std::string name = of.first;
    const dtype type = of.second;
    INFO(name);
    const auto loaded = model::stored_llama::load(dir / name);
    REQUIRE(loaded);
    CHECK(loaded->type() == type);
    CHECK(loaded->config().dim == weights.config().dim);
    const std::size_t norms = weights.norms().size_bytes();
    CHECK(loaded->bytes() == weights.matrices().size() * size_of(type) + norms);
    if (type != dtype::f16) CHECK(loaded->hash() == weights.hash());
    loaded->visit([&]<element E>(const model::llama_weights<E>& w) {
      CHECK(dtype_of<E> == type);
      CHECK(to_float(w.head()(3, 2)) == Approx(to_float(weights.head()(3, 2))));
    });
  }
}

TEST_CASE("matrices of several types are held as f32; what cannot be read is said", "[model]") {
  const crayon_test::scratch dir;
  const auto weights = random_weights<bf16>(small_config());
  REQUIRE(model::write_hf_llama(dir / "m", weights));
  const std::string path = (dir / "m") + "/model.safetensors";
  {
    const auto file = io::safetensors::open(path);
    REQUIRE(file);
    auto tensors = file->tensors();
    aligned_vector<float> wide;
    for (auto& t : tensors) {
      if (t.name != "model.layers.0.mlp.up_proj.weight") continue;
      wide.resize(t.shape[0] * t.shape[1]);
      const matrix_view<float> view(wide.data(), t.shape[0], t.shape[1]);
      REQUIRE(io::read_matrix(path, t, view));
      t = io::tensor_of(t.name, matrix_view<const float>(view));
    }
    REQUIRE(!wide.empty());
    REQUIRE(io::write_safetensors(dir / "mixed", tensors, {}));
  }
  std::filesystem::rename(dir / "mixed", path);
  const auto mixed = model::stored_llama::load(dir / "m");
  REQUIRE(mixed);
  CHECK(mixed->type() == dtype::f32);
  CHECK(mixed->hash() == weights.hash());

  std::filesystem::remove(path);
  for (const std::string name : {"m", "none"}) {
    const auto missing = model::stored_llama::load(dir / name);
    REQUIRE(!missing);
    CHECK(missing.error().text == model::load_llama<float>(dir / name).error().text);
  }
}
