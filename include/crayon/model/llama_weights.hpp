// SPDX-License-Identifier: MIT
// The weights of a Llama model: one block of matrices and one of norms, with views into them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/core/aligned.hpp>
#include <crayon/core/element.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/core/view.hpp>
#include <crayon/model/llama_config.hpp>

namespace crayon::model {

/// One named weight. A vector has one row.
struct weight_shape {
  std::string name;  ///< as in transformers: "model.layers.0.mlp.up_proj.weight"
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t offset = 0;  ///< in elements, into matrices or norms
  bool norm = false;
};

/// Of one layer: the two norms, then the projections.
inline constexpr std::size_t weights_per_layer = 2 + projections_per_layer;

/// Every weight of that architecture. Matrices are (out, in), row-major; rope pairs element j of a
/// head with j + head_dim / 2, as transformers does (llama2.c and Meta pair 2j with 2j + 1; readers
/// of their files reorder the rows of q and k).
[[nodiscard]] inline std::vector<weight_shape> llama_weight_shapes(const llama_config& c) {
  std::vector<weight_shape> shapes;
  std::size_t matrices = 0, norms = 0;
  const auto matrix = [&](std::string name, std::size_t rows, std::size_t cols) {
    shapes.push_back({std::move(name), rows, cols, matrices, false});
    constexpr std::size_t line = 32;  // elements; a cache line of the smallest element type
    matrices += (rows * cols + line - 1) / line * line;
  };
  const auto norm = [&](std::string name) {
    shapes.push_back({std::move(name), 1, c.dim, norms, true});
    norms += c.dim;
  };
  matrix("model.embed_tokens.weight", c.vocab, c.dim);
  for (std::size_t layer = 0; layer < c.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    norm(prefix + "input_layernorm.weight");
    norm(prefix + "post_attention_layernorm.weight");
    for (std::size_t p = 0; p < projections_per_layer; ++p) {
      const auto which = static_cast<projection>(p);
      matrix(llama_config::module(llama_config::site(layer, which)) + ".weight", c.out(which),
             c.in(which));
    }
  }
  norm("model.norm.weight");
  if (!c.tied) matrix("lm_head.weight", c.vocab, c.dim);
  return shapes;
}

/// Owns the weights; matrices are stored as E, norms as f32.
template <element E>
class llama_weights {
 public:
  using element_type = E;

  llama_weights() = default;

  /// All matrices zero, all norms one.
  explicit llama_weights(const llama_config& config)
      : config_(config), shapes_(llama_weight_shapes(config)) {
    std::size_t matrices = 0, norms = 0;
    for (const auto& s : shapes_) {
      (s.norm ? norms : matrices) = s.offset + s.rows * s.cols;
    }
    matrices_.assign(matrices, from_float<E>(0));
    norms_.assign(norms, 1.0F);
  }

  [[nodiscard]] const llama_config& config() const noexcept { return config_; }

  /// In the order of the forward pass; `offset` counts into `matrices()` or `norms()`.
  [[nodiscard]] const std::vector<weight_shape>& shapes() const noexcept { return shapes_; }

  [[nodiscard]] std::span<E> matrices() noexcept { return matrices_; }
  [[nodiscard]] std::span<const E> matrices() const noexcept { return matrices_; }
  [[nodiscard]] std::span<float> norms() noexcept { return norms_; }
  [[nodiscard]] std::span<const float> norms() const noexcept { return norms_; }

  /// (vocab, dim)
  [[nodiscard]] matrix_view<const E> embedding() const noexcept { return matrix(0); }
  /// (vocab, dim)
  [[nodiscard]] matrix_view<const E> head() const noexcept {
    return config_.tied ? matrix(0) : matrix(shapes_.size() - 1);
  }
  /// (out, in)
  [[nodiscard]] matrix_view<const E> linear(std::size_t layer, projection p) const noexcept {
    return matrix(1 + layer * weights_per_layer + 2 + static_cast<std::size_t>(p));
  }
  /// (dim)
  [[nodiscard]] const float* attention_norm(std::size_t layer) const noexcept {
    return norms_.data() + shapes_[1 + layer * weights_per_layer].offset;
  }
  /// (dim)
  [[nodiscard]] const float* mlp_norm(std::size_t layer) const noexcept {
    return norms_.data() + shapes_[2 + layer * weights_per_layer].offset;
  }
  /// (dim)
  [[nodiscard]] const float* final_norm() const noexcept {
    return norms_.data() + shapes_[1 + config_.layers * weights_per_layer].offset;
  }

  /// Identity of the model: what adapters, pools and thresholds are bound to. Of the weights' values:
  /// those of a bf16 file have the same one as bf16 and widened to f32. And of what they are run
  /// with and do not show, heads, rope and norm epsilon; not of the context, which only limits.
  [[nodiscard]] std::string hash() const {
    hasher h;
    const auto& c = config_;
    for (const std::size_t n : {c.dim, c.hidden, c.layers, c.heads, c.kv_heads, c.head_dim, c.vocab,
                                c.scaling.original_context, std::size_t{c.tied}}) {
      h.add(&n, sizeof n);
    }
    for (const float x :
         {c.rope_theta, c.norm_epsilon, c.scaling.factor, c.scaling.low, c.scaling.high}) {
      h.add(&x, sizeof x);
    }
    std::array<float, 1024> wide;  // an even number, as `hasher` takes two at a time
    for (std::size_t i = 0; i < matrices_.size(); i += wide.size()) {
      const std::size_t n = std::min(wide.size(), matrices_.size() - i);
      for (std::size_t j = 0; j < n; ++j) wide[j] = to_float(matrices_[i + j]);
      h.add(wide.data(), n * sizeof(float));
    }
    h.add(norms_.data(), norms_.size() * sizeof(float));
    return h.hex();
  }

 private:
  [[nodiscard]] matrix_view<const E> matrix(std::size_t i) const noexcept {
    const auto& s = shapes_[i];
    return {matrices_.data() + s.offset, s.rows, s.cols};
  }

  llama_config config_;
  std::vector<weight_shape> shapes_;
  aligned_vector<E> matrices_;
  aligned_vector<float> norms_;
};

}  // namespace crayon::model
