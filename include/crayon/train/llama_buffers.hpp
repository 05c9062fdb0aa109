// SPDX-License-Identifier: MIT
// The memory of one forward and backward pass; it only grows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <crayon/core/aligned.hpp>
#include <crayon/core/view.hpp>
#include <crayon/model/llama_config.hpp>
#include <crayon/train/attention.hpp>
#include <crayon/train/batch.hpp>
#include <crayon/train/lora_factors.hpp>

namespace crayon::train {

/// A float matrix that keeps its memory when it gets smaller.
class buffer {
 public:
  matrix_view<float> shape(std::size_t rows, std::size_t cols) {
    if (memory_.size() < rows * cols) memory_.resize(rows * cols);
    return view_ = {memory_.data(), rows, cols};
  }
  [[nodiscard]] matrix_view<float> view() const noexcept { return view_; }
  [[nodiscard]] float* data() const noexcept { return view_.data; }
  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.size() * sizeof(float); }

 private:
  aligned_vector<float> memory_;
  matrix_view<float> view_;
};

/// What the backward pass of one layer needs; one row per token. After the last layer's attention
/// only the scored rows go on, so that its later members have (scored rows, ...).
struct layer_activations {
  buffer attention_in;   ///< (rows, dim) normed
  buffer q, k, v;        ///< after rope
  buffer probabilities;  ///< per sequence (heads * length, length)
  buffer mixed;          ///< (rows, q_dim) the heads' outputs
  buffer middle;         ///< (rows, dim) the residual stream between attention and MLP
  buffer mlp_in;         ///< (rows, dim) normed
  buffer gate, up;       ///< (rows, hidden)
  buffer product;        ///< (rows, hidden) silu(gate) * up
};

/// Logits that are in memory at a time, in floats, unless 64 rows are more than that. Fewer rows
/// per product with the head cost speed: 64 rows of 32000 logits a quarter of it, 256 a tenth.
inline constexpr std::size_t logits_at_a_time = std::size_t{1} << 23;

struct llama_buffers {
  std::vector<buffer> inputs;             ///< per layer (rows, dim): the residual stream before it
  std::vector<layer_activations> layers;  ///< of all layers, or of the one at work
  buffer scored_mixed;                    ///< (scored rows, q_dim) of the last layer
  buffer scored;         ///< (scored rows, dim) the residual stream after the last layer
  buffer scored_normed;  ///< (scored rows, dim)
  buffer logits;         ///< (some scored rows, vocab)
  buffer d_scored, d_scored_normed, d_scored_mixed;
  buffer d_stream;  ///< (rows, dim) gradient of the residual stream
  buffer d_normed;  ///< (rows, dim)
  buffer d_mixed, dq, dk, dv, d_gate, d_up, d_product;
  buffer scratch;  ///< attention blocks, and one row
  std::vector<std::size_t> scored_rows;
  std::vector<std::size_t> scored_offsets;  ///< sequence s has [scored_offsets[s], [s + 1]) of them
  std::vector<std::int32_t> scored_targets;
  std::vector<std::size_t> probability_offsets;
  std::vector<buffer> lora;  ///< per adapted site, per projection, or one; (rows, total)
  buffer d_lora, lora_gate;
  buffer dropped;  ///< (rows, in) of the widest adapted site
  bool recompute = false;

  /// `recompute_layers`: activations of one layer at a time are kept, and the inputs of all.
  /// `merged`: the adapters' own channels are not kept.
  void fit(const model::llama_config& c, const batch_view& batch, const lora_factors* factors,
           bool recompute_layers, bool drops, bool merged) {
    const std::size_t rows = batch.rows();
    recompute = recompute_layers;
    find_scored(c, batch);
    const std::size_t last_rows = scored_rows.size();
    inputs.resize(c.layers);
    for (buffer& b : inputs) b.shape(rows, c.dim);
    layers.resize(recompute ? 1 : c.layers);
    for (std::size_t layer = 0; layer < c.layers; ++layer) fit_layer(c, layer, rows);
    for (buffer* b : {&d_stream, &d_normed}) b->shape(rows, c.dim);
    for (buffer* b : {&scored, &scored_normed, &d_scored, &d_scored_normed}) {
      b->shape(last_rows, c.dim);
    }
    for (buffer* b : {&scored_mixed, &d_scored_mixed}) b->shape(last_rows, c.q_dim());
    const std::size_t chunk = std::max<std::size_t>(logits_at_a_time / c.vocab, 64);
    logits.shape(std::min(last_rows, chunk), c.vocab);
    for (buffer* b : {&d_mixed, &dq}) b->shape(rows, c.q_dim());
    for (buffer* b : {&dk, &dv}) b->shape(rows, c.kv_dim());
    for (buffer* b : {&d_gate, &d_up, &d_product}) b->shape(rows, c.hidden);
    scratch.shape(1, std::max(attention_block * longest_, c.dim));
    if (factors == nullptr) return;
    std::size_t widest = 0, widest_in = 0;
    for (const auto& site : factors->sites()) {
      widest = std::max(widest, site.total);
      widest_in = std::max(widest_in, site.in);
    }
    const std::size_t kept = merged      ? 1
                             : recompute ? model::projections_per_layer
                                         : factors->sites().size();
    if (lora.size() < kept) lora.resize(kept);
    for (std::size_t s = 0; s < kept; ++s) {
      lora[s].shape(rows, merged || recompute ? widest : factors->sites()[s].total);
    }
    d_lora.shape(rows, widest);
    lora_gate.shape(1, widest);
    if (drops) dropped.shape(rows, widest_in);
  }

  /// The activations of that layer; with `recompute`, whatever was there before is gone.
  layer_activations& fit_layer(const model::llama_config& c, std::size_t layer, std::size_t rows) {
    auto& l = of(layer);
    const std::size_t after = layer + 1 == c.layers ? scored_rows.size() : rows;
    l.attention_in.shape(rows, c.dim);
    for (buffer* b : {&l.middle, &l.mlp_in}) b->shape(after, c.dim);
    for (buffer* b : {&l.q, &l.mixed}) b->shape(rows, c.q_dim());
    for (buffer* b : {&l.k, &l.v}) b->shape(rows, c.kv_dim());
    for (buffer* b : {&l.gate, &l.up, &l.product}) b->shape(after, c.hidden);
    l.probabilities.shape(1, probabilities_);
    return l;
  }

  [[nodiscard]] layer_activations& of(std::size_t layer) noexcept {
    return layers[recompute ? 0 : layer];
  }

  /// What all of it takes.
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    const auto add = [&](const auto&... buffers) { ((sum += buffers.bytes()), ...); };
    for (const auto& b : inputs) add(b);
    for (const auto& b : lora) add(b);
    for (const auto& l : layers) {
      add(l.attention_in, l.q, l.k, l.v, l.probabilities, l.mixed, l.middle, l.mlp_in, l.gate, l.up,
          l.product);
    }
    add(scored_mixed, scored, scored_normed, logits, d_scored, d_scored_normed, d_scored_mixed,
        d_stream, d_normed, d_mixed, dq, dk, dv, d_gate, d_up, d_product, scratch, d_lora,
        lora_gate, dropped);
    return sum;
  }

 private:
  void find_scored(const model::llama_config& c, const batch_view& batch) {
    scored_rows.clear();
    scored_targets.clear();
    scored_offsets.assign(1, 0);
    probability_offsets.clear();
    probabilities_ = longest_ = 0;
    for (std::size_t s = 0; s < batch.sequences(); ++s) {
      const std::size_t length = batch.length(s);
      for (std::size_t t = batch.begin(s); t < batch.begin(s) + length; ++t) {
        if (batch.targets[t] == no_target) continue;
        scored_rows.push_back(t);
        scored_targets.push_back(batch.targets[t]);
      }
      scored_offsets.push_back(scored_rows.size());
      probability_offsets.push_back(probabilities_);
      probabilities_ += c.heads * length * length;
      longest_ = std::max(longest_, length);
    }
  }

  std::size_t probabilities_ = 0, longest_ = 0;
};

}  // namespace crayon::train
