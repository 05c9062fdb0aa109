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
#include <crayon/train/rounded_tape.hpp>

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

/// What a pass keeps of the layers until it comes back to them.
struct keeping {
  bool inputs_only = false;  ///< the rest is computed again
  activation_type type = activation_type::f32;
};

struct llama_buffers {
  std::vector<buffer> inputs;  ///< (rows, dim): the residual stream before each layer, or two of it
  std::vector<layer_activations> layers;  ///< of all layers, or of the one at work
  std::vector<rounded_tape> tapes;        ///< what all layers but the last keep in bf16
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
  keeping keeps;

  /// Whether activations of one layer at a time are in memory in f32.
  [[nodiscard]] bool one_layer() const noexcept {
    return keeps.inputs_only || keeps.type == activation_type::bf16;
  }

  /// `factors` may be null. `merged`: the adapters' own channels are not kept.
  void fit(const model::llama_config& c, const batch_view& batch, const lora_factors* factors,
           keeping what, bool drops, bool merged) {
    const std::size_t rows = batch.rows();
    config_ = &c;
    factors_ = factors;
    rows_ = rows;
    merged_ = merged;
    keeps = what;
    find_scored(c, batch);
    const std::size_t last_rows = scored_rows.size();
    const bool rounded = keeps.type == activation_type::bf16;
    inputs.resize(rounded ? 2 : c.layers);
    tapes.resize(rounded ? c.layers - 1 : 0);
    for (buffer& b : inputs) b.shape(rows, c.dim);
    layers.resize(one_layer() ? 1 : c.layers);
    for (std::size_t layer = 0; layer < c.layers; ++layer) fit_layer(layer);
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
    const std::size_t kept = merged        ? 1
                             : one_layer() ? model::projections_per_layer
                                           : factors->sites().size();
    if (lora.size() < kept) lora.resize(kept);
    for (std::size_t s = 0; s < kept; ++s) {
      lora[s].shape(rows, merged || one_layer() ? widest : factors->sites()[s].total);
    }
    d_lora.shape(rows, widest);
    lora_gate.shape(1, widest);
    if (drops) dropped.shape(rows, widest_in);
  }

  /// The activations of that layer; with one_layer(), whatever was there before is gone.
  layer_activations& fit_layer(std::size_t layer) {
    auto& l = of(layer);
    const auto& c = *config_;
    const std::size_t after = rows_after_attention(layer);
    l.attention_in.shape(rows_, c.dim);
    for (buffer* b : {&l.middle, &l.mlp_in}) b->shape(after, c.dim);
    for (buffer* b : {&l.q, &l.mixed}) b->shape(rows_, c.q_dim());
    for (buffer* b : {&l.k, &l.v}) b->shape(rows_, c.kv_dim());
    for (buffer* b : {&l.gate, &l.up, &l.product}) b->shape(after, c.hidden);
    l.probabilities.shape(1, probabilities_);
    return l;
  }

  [[nodiscard]] layer_activations& of(std::size_t layer) noexcept {
    return layers[one_layer() ? 0 : layer];
  }

  /// (rows, total): where the gated rank channels of a site are kept from forward to backward;
  /// merged adapters have them in the backward pass only.
  [[nodiscard]] matrix_view<float> gated(const lora_site& site, std::size_t layer,
                                         model::projection p) const noexcept {
    const std::size_t i = merged_       ? 0
                          : one_layer() ? static_cast<std::size_t>(p)
                                        : factors_->number(site);
    return {lora[i].data(), p < model::projection::o ? rows_ : rows_after_attention(layer),
            site.total};
  }

  /// In bf16, that layer's activations, but what its rows alone give again; not of the last layer,
  /// which is the first to be read.
  void keep(std::size_t layer) {
    if (tapes.empty() || layer == tapes.size()) return;
    tapes[layer].rewind();
    each_kept(layer, [&](matrix_view<const float> m) { tapes[layer].write(m); });
  }
  /// They are in of(layer) and input(layer) again.
  void recall(std::size_t layer) {
    if (tapes.empty() || layer == tapes.size()) return;
    tapes[layer].rewind();
    each_kept(layer, [&](matrix_view<float> m) { tapes[layer].read(m); });
  }

  /// (rows, dim) before that layer, which is not beyond the last one.
  [[nodiscard]] matrix_view<float> input(std::size_t layer) noexcept {
    return inputs[keeps.type == activation_type::bf16 ? layer % 2 : layer].view();
  }

  /// What all of it takes.
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    const auto add = [&](const auto&... buffers) { ((sum += buffers.bytes()), ...); };
    for (const auto& b : inputs) add(b);
    for (const auto& b : lora) add(b);
    for (const auto& t : tapes) add(t);
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
  [[nodiscard]] std::size_t rows_after_attention(std::size_t layer) const noexcept {
    return layer + 1 == config_->layers ? scored_rows.size() : rows_;
  }

  template <class Use>
  void each_kept(std::size_t layer, Use&& use) {
    use(input(layer));
    if (keeps.inputs_only) return;
    const auto& l = of(layer);
    for (const buffer* b :
         {&l.q, &l.k, &l.v, &l.probabilities, &l.mixed, &l.middle, &l.gate, &l.up}) {
      use(b->view());
    }
    if (factors_ == nullptr || merged_) return;
    for (std::size_t i = 0; i < model::projections_per_layer; ++i) {
      const auto p = static_cast<model::projection>(i);
      const lora_site* site = factors_->find(model::llama_config::site(layer, p));
      if (site != nullptr) use(gated(*site, layer, p));
    }
  }

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

  const model::llama_config* config_ = nullptr;
  const lora_factors* factors_ = nullptr;
  std::size_t rows_ = 0;
  bool merged_ = false;
  std::size_t probabilities_ = 0, longest_ = 0;
};

}  // namespace crayon::train
