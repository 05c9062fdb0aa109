// SPDX-License-Identifier: MIT
// All three formulas against numpy (fixtures/make_blend.py).
#include <crayon/blend/linear.hpp>

#include <crayon/blend/activations.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/io/safetensors.hpp>

#include <string>
#include <vector>

#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

matrix_view<float> view(std::vector<float>& memory, std::size_t rows, std::size_t cols) {
  memory.resize(rows * cols);
  return {memory.data(), rows, cols};
}

}  // namespace

TEST_CASE("activations, concat and linear agree with numpy") {
  const auto file = io::safetensors::open(CRAYON_FIXTURES "/blend.safetensors");
  REQUIRE(file);
  std::vector<float> memory;
  const std::size_t count = file->find("weights")->shape[0];
  std::vector<float> weights(count);
  REQUIRE(io::read_matrix(*file, "weights", view(weights, 1, count)));

  std::vector<adapter::site_shape> shapes;
  for (int s = 0; s < 3; ++s) {
    const std::string site = "." + std::to_string(s);
    const auto* a = file->find("0" + site + ".a");
    const auto* b = file->find("0" + site + ".b");
    REQUIRE(io::read_matrix(*file, "scale" + site, view(memory, 1, 1)));
    shapes.push_back({std::to_string(s), b->shape[0], a->shape[1], a->shape[0], memory[0]});
  }
  std::vector<lora_adapter<float>> adapters;
  for (std::size_t k = 0; k < count; ++k) {
    adapters.emplace_back(shapes);
    for (std::size_t s = 0; s < 3; ++s) {
      const std::string key = std::to_string(k) + "." + std::to_string(s);
      REQUIRE(io::read_matrix(*file, key + ".a", adapters[k].a(s)));
      REQUIRE(io::read_matrix(*file, key + ".b", adapters[k].b(s)));
    }
  }
  const auto p = pool<float>::build(adapters, {}, {});
  REQUIRE(p);
  const auto slots = blend::slots_of(weights);
  const auto kept = blend::activations::blend(*p, slots);
  const auto joined = blend::concat::blend(*p, slots);
  const auto mean = blend::linear<>::blend(*p, slots);
  REQUIRE(kept);
  REQUIRE(joined);
  REQUIRE(mean);
  for (std::size_t s = 0; s < 3; ++s) {
    const auto expected = [&](const std::string& name) {
      REQUIRE(io::read_matrix(*file, name + "." + std::to_string(s),
                              view(memory, shapes[s].out, shapes[s].in)));
      return std::vector<double>(memory.begin(), memory.end());
    };
    const auto exact = expected("exact"), linear = expected("linear");
    CHECK(distance(delta_at(*kept, s), exact) <= 1e-6 * norm(exact));
    CHECK(distance(delta_at(*joined, s), exact) <= 1e-6 * norm(exact));
    CHECK(distance(delta_at(*mean, s), linear) <= 1e-6 * norm(linear));
    CHECK(distance(exact, linear) > 0.01 * norm(exact));  // the two formulas differ
  }
}
