// SPDX-License-Identifier: MIT
// What fixtures/make_gradients.py stored, and comparison in norms.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/model/llama_weights.hpp>
#include <crayon/train/batch.hpp>
#include <crayon/train/lora_factors.hpp>

#include "../catch.hpp"

namespace oracle {

using namespace crayon;

/// |a - b| / |b|, Euclidean.
inline double relative_difference(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
    size += double{b[i]} * double{b[i]};
  }
  return std::sqrt(difference) / std::sqrt(size);
}

/// PyTorch ran in f64; f32 arithmetic over sums of some dozens leaves about 1e-6.
inline constexpr double tolerance = 2e-5;

inline model::llama_config config(bool tied) {
  return {.dim = 20,
          .hidden = 28,
          .layers = 2,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 6,
          .vocab = 26,
          .context = 16,
          .rope_theta = 500.0F,
          .norm_epsilon = 1e-5F,
          .tied = tied};
}

inline constexpr std::size_t sequences = 4, adapters = 3, rank = 2;
inline constexpr float alpha = 3;

class fixture {
 public:
  explicit fixture(const std::string& name = "gradients.safetensors") {
    auto opened = io::safetensors::open(std::string(CRAYON_FIXTURES) + "/" + name);
    REQUIRE(opened);
    file_ = std::move(*opened);
  }

  template <class T = float>
  [[nodiscard]] std::vector<T> read(const std::string& name) const {
    const io::tensor* t = file_.find(name);
    INFO(name);
    REQUIRE(t != nullptr);
    std::vector<T> values(t->bytes.size() / sizeof(T));
    std::memcpy(values.data(), t->bytes.data(), t->bytes.size());
    return values;
  }

  [[nodiscard]] float number(const std::string& name) const { return read(name).at(0); }

  /// The weights called `prefix` + their name.
  [[nodiscard]] model::llama_weights<float> weights(bool tied, const std::string& prefix) const {
    model::llama_weights<float> w(config(tied));
    for (const auto& s : w.shapes()) {
      const auto values = read(prefix + s.name);
      REQUIRE(values.size() == s.rows * s.cols);
      std::copy(values.begin(), values.end(),
                (s.norm ? w.norms() : w.matrices()).data() + s.offset);
    }
    return w;
  }

  /// Factors called `prefix` + "a." or "b." + module.
  [[nodiscard]] adapter::lora_adapter<float> adapter(const std::string& prefix) const {
    using model::projection;
    constexpr std::array all{projection::q,    projection::k,  projection::v,   projection::o,
                             projection::gate, projection::up, projection::down};
    adapter::lora_adapter<float> made(train::lora_shapes(config(true), rank, alpha, all));
    for (std::size_t i = 0; i < made.size(); ++i) {
      const std::string module(made.module(i));
      const auto a = read(prefix + "a." + module), b = read(prefix + "b." + module);
      REQUIRE(a.size() == made.a(i).size());
      REQUIRE(b.size() == made.b(i).size());
      std::copy(a.begin(), a.end(), made.a(i).data);
      std::copy(b.begin(), b.end(), made.b(i).data);
    }
    return made;
  }

  /// As a flat block that has the layout of training: `adapters` of them side by side.
  [[nodiscard]] std::vector<float> flat(
      const std::vector<adapter::lora_adapter<float>>& from) const {
    const auto factors = train::lora_factors::from(config(true), from);
    REQUIRE(factors);
    return {factors->values().begin(), factors->values().end()};
  }

  [[nodiscard]] train::packed_batch batch() const {
    const auto first = read<std::int32_t>("first_scored");
    train::packed_batch b;
    for (std::size_t s = 0; s < sequences; ++s) {
      b.add(read<std::int32_t>("sequence." + std::to_string(s)),
            static_cast<std::size_t>(first.at(s)));
    }
    return b;
  }

 private:
  io::safetensors file_;
};

}  // namespace oracle
