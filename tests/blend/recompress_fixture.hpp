// SPDX-License-Identifier: MIT
// fixtures/recompress.safetensors, made by make_recompress.py.
#pragma once

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/io/safetensors.hpp>

#include <string>
#include <vector>

#include "../catch.hpp"

namespace crayon_test {

struct recompress_fixture {
  crayon::io::safetensors file;
  std::vector<crayon::adapter::lora_adapter<float>> adapters;
  std::vector<float> weights;

  recompress_fixture()
      : file(*crayon::io::safetensors::open(CRAYON_FIXTURES "/recompress.safetensors")) {
    weights = values("weights");
    std::vector<crayon::adapter::site_shape> shapes;
    for (int s = 0; s < 3; ++s) {
      const std::string site = "." + std::to_string(s);
      const auto* a = file.find("0" + site + ".a");
      const auto* b = file.find("0" + site + ".b");
      shapes.push_back(
          {std::to_string(s), b->shape[0], a->shape[1], a->shape[0], values("scale" + site)[0]});
    }
    for (std::size_t k = 0; k < weights.size(); ++k) {
      adapters.emplace_back(shapes);
      for (std::size_t s = 0; s < 3; ++s) {
        const std::string key = std::to_string(k) + "." + std::to_string(s);
        REQUIRE(crayon::io::read_matrix(file, key + ".a", adapters[k].a(s)));
        REQUIRE(crayon::io::read_matrix(file, key + ".b", adapters[k].b(s)));
      }
    }
  }

  /// All elements of a tensor.
  [[nodiscard]] std::vector<float> values(const std::string& name) const {
    const auto* t = file.find(name);
    REQUIRE(t != nullptr);
    const std::size_t rows = t->shape.size() == 2 ? t->shape[0] : 1, cols = t->shape.back();
    std::vector<float> all(rows * cols);
    REQUIRE(
        crayon::io::read_matrix(file, name, crayon::matrix_view<float>(all.data(), rows, cols)));
    return all;
  }
};

}  // namespace crayon_test
