// SPDX-License-Identifier: MIT
// The Llama architecture as numbers and names.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace crayon::model {

/// The linear layers of a Llama block, in the order of their sites.
enum class projection : std::uint8_t { q, k, v, o, gate, up, down };
inline constexpr std::size_t projections_per_layer = 7;

/// Slower rotation for contexts longer than those of pre-training: a frequency whose wavelength (in
/// tokens) is above original_context / low is divided by `factor`, one below original_context /
/// high is kept, between them it is interpolated (Llama 3.1). With original_context 0 all are
/// divided (linear scaling). Factor 1: none of it.
struct rope_scaling {
  float factor = 1;
  float low = 1;                     ///< low_freq_factor
  float high = 4;                    ///< high_freq_factor, above low
  std::size_t original_context = 0;  ///< original_max_position_embeddings

  friend bool operator==(const rope_scaling&, const rope_scaling&) = default;
};

/// Names and values as in transformers' LlamaConfig.
struct llama_config {
  std::size_t dim = 0;       ///< hidden_size
  std::size_t hidden = 0;    ///< intermediate_size
  std::size_t layers = 0;    ///< num_hidden_layers
  std::size_t heads = 0;     ///< num_attention_heads
  std::size_t kv_heads = 0;  ///< num_key_value_heads
  std::size_t head_dim = 0;
  std::size_t vocab = 0;
  std::size_t context = 0;  ///< max_position_embeddings
  float rope_theta = 10000.0F;
  float norm_epsilon = 1e-5F;
  bool tied = true;  ///< the head is the embedding
  rope_scaling scaling = {};

  friend bool operator==(const llama_config&, const llama_config&) = default;

  [[nodiscard]] constexpr std::size_t q_dim() const noexcept { return heads * head_dim; }
  [[nodiscard]] constexpr std::size_t kv_dim() const noexcept { return kv_heads * head_dim; }

  [[nodiscard]] constexpr std::size_t out(projection p) const noexcept {
    switch (p) {
      case projection::q:
        return q_dim();
      case projection::k:
      case projection::v:
        return kv_dim();
      case projection::gate:
      case projection::up:
        return hidden;
      case projection::o:
      case projection::down:
        return dim;
    }
    return 0;
  }
  [[nodiscard]] constexpr std::size_t in(projection p) const noexcept {
    switch (p) {
      case projection::o:
        return q_dim();
      case projection::down:
        return hidden;
      default:
        return dim;
    }
  }

  /// Sites are numbered layer by layer, the seven projections in order.
  [[nodiscard]] constexpr std::size_t sites() const noexcept {
    return layers * projections_per_layer;
  }
  [[nodiscard]] static constexpr std::size_t site(std::size_t layer, projection p) noexcept {
    return layer * projections_per_layer + static_cast<std::size_t>(p);
  }
  [[nodiscard]] static constexpr projection projection_of(std::size_t site) noexcept {
    return static_cast<projection>(site % projections_per_layer);
  }
  [[nodiscard]] static constexpr std::size_t layer_of(std::size_t site) noexcept {
    return site / projections_per_layer;
  }

  /// The site of the head, which follows those of the layers.
  [[nodiscard]] constexpr std::size_t head_site() const noexcept { return sites(); }

  static constexpr std::string_view head_module = "lm_head";
  static constexpr std::string_view embedding_module = "model.embed_tokens";

  /// The layer's name in transformers: "model.layers.3.self_attn.q_proj".
  [[nodiscard]] static std::string module(std::size_t site) {
    constexpr std::array<std::string_view, projections_per_layer> names{
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    return "model.layers." + std::to_string(layer_of(site)) + "." +
           std::string(names[site % projections_per_layer]);
  }

  /// Number of weights, the head counted once when tied.
  [[nodiscard]] constexpr std::size_t parameters() const noexcept {
    const std::size_t attention = dim * (2 * q_dim() + 2 * kv_dim());
    return vocab * dim * (tied ? 1 : 2) + dim + layers * (attention + 3 * dim * hidden + 2 * dim);
  }
};

}  // namespace crayon::model
