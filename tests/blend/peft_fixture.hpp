// SPDX-License-Identifier: MIT
// What PEFT made of its own adapters (fixtures/make_peft_blends.py).
#pragma once

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/peft.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/io/safetensors.hpp>

#include <string>
#include <utility>
#include <vector>

#include "laws.hpp"

namespace crayon_test {

/// Adapters as PEFT saved them, and tensors of what it made of them.
struct peft_fixture {
  crayon::io::safetensors file;
  adapter_set<float> adapters;
  std::vector<weighted_slot> weights;

  /// Fails the test where a file cannot be read.
  static peft_fixture load(const std::string& model) {
    const std::string path = CRAYON_FIXTURES "/peft/" + model;
    peft_fixture loaded{value(crayon::io::safetensors::open(path + ".safetensors")), {}, {}};
    const auto* tensor = loaded.file.find("weights");
    REQUIRE(tensor != nullptr);
    std::vector<float> weights(tensor->shape[0]);
    REQUIRE(crayon::io::read_matrix(loaded.file, "weights",
                                    crayon::matrix_view<float>(weights.data(), 1, weights.size())));
    loaded.weights = crayon::blend::slots_of(weights);
    std::vector<lora_adapter<float>> adapters;
    for (std::size_t k = 0; k < weights.size(); ++k) {
      adapters.push_back(
          value(crayon::adapter::load_peft<float>(path + "/a" + std::to_string(k))).adapter);
    }
    loaded.adapters = value(adapter_set<float>::build(std::move(adapters)));
    return loaded;
  }

  [[nodiscard]] bool has(const std::string& name) const { return file.find(name) != nullptr; }

  /// A tensor of any rank up to 2, in double.
  [[nodiscard]] std::vector<double> tensor(const std::string& name) const {
    const auto* found = file.find(name);
    INFO(name);
    REQUIRE(found != nullptr);
    const std::size_t rows = found->shape.size() == 2 ? found->shape[0] : 1;
    std::vector<float> values(rows * found->shape.back());
    REQUIRE(crayon::io::read_matrix(
        file, name, crayon::matrix_view<float>(values.data(), rows, found->shape.back())));
    return {values.begin(), values.end()};
  }

  /// sum_k w_k s_k B_k A_k from what each adapter alone adds, by PEFT.
  [[nodiscard]] std::vector<double> exact(const std::string& module) const {
    std::vector<double> sum;
    for (const auto& [slot, weight] : weights) {
      const std::string name = "adapter.a" + std::to_string(slot) + "." + module + ".delta";
      if (!has(name)) continue;
      const auto one = tensor(name);
      sum.resize(one.size());
      for (std::size_t j = 0; j < one.size(); ++j) sum[j] += double{weight} * one[j];
    }
    return sum;
  }

 private:
  template <class T>
  static T value(crayon::result<T> loaded) {
    INFO((loaded ? "" : loaded.error().text));
    REQUIRE(loaded);
    return *std::move(loaded);
  }
};

inline std::vector<double> times(std::vector<double> v, double factor) {
  for (double& x : v) x *= factor;
  return v;
}

}  // namespace crayon_test
