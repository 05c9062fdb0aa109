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

 private:
  aligned_vector<float> memory_;
  matrix_view<float> view_;
};

/// What the backward pass of one layer needs; one row per token. After the last layer's attention
/// only the scored rows go on, so that its later members have (scored rows, ...).
struct layer_activations {
  buffer input;          ///< (rows, dim) the residual stream before the layer
  buffer attention_in;   ///< (rows, dim) normed
  buffer q, k, v;        ///< after rope
  buffer probabilities;  ///< per sequence (heads * length, length)
  buffer mixed;          ///< (rows, q_dim) the heads' outputs
  buffer middle;         ///< (rows, dim) the residual stream between attention and MLP
  buffer mlp_in;         ///< (rows, dim) normed
  buffer gate, up;       ///< (rows, hidden)
  buffer product;        ///< (rows, hidden) silu(gate) * up
};

struct llama_buffers {
  std::vector<layer_activations> layers;
  buffer scored_mixed;   ///< (scored rows, q_dim) of the last layer
  buffer scored;         ///< (scored rows, dim) the residual stream after the last layer
  buffer scored_normed;  ///< (scored rows, dim)
  buffer logits;         ///< (scored rows, vocab)
  buffer d_scored, d_scored_normed, d_scored_mixed;
  buffer d_stream;  ///< (rows, dim) gradient of the residual stream
  buffer d_normed;  ///< (rows, dim)
  buffer d_mixed, dq, dk, dv, d_gate, d_up, d_product;
  buffer ones;     ///< (1, hidden)
  buffer scratch;  ///< attention blocks, and one row
  std::vector<std::size_t> scored_rows;
  std::vector<std::size_t> scored_offsets;  ///< sequence s has [scored_offsets[s], [s + 1]) of them
  std::vector<std::int32_t> scored_targets;
  std::vector<std::size_t> probability_offsets;
  std::vector<buffer> lora;  ///< per adapted site (rows, total)
  buffer d_lora, lora_gate;

  void fit(const model::llama_config& c, const batch_view& batch, const lora_factors* factors) {
    const std::size_t rows = batch.rows();
    scored_rows.clear();
    scored_targets.clear();
    scored_offsets.assign(1, 0);
    for (std::size_t s = 0; s < batch.sequences(); ++s) {
      for (std::size_t t = batch.begin(s); t < batch.begin(s) + batch.length(s); ++t) {
        if (batch.targets[t] == no_target) continue;
        scored_rows.push_back(t);
        scored_targets.push_back(batch.targets[t]);
      }
      scored_offsets.push_back(scored_rows.size());
    }
    const std::size_t last_rows = scored_rows.size();
    probability_offsets.clear();
    std::size_t probabilities = 0, longest = 0;
    for (std::size_t s = 0; s < batch.sequences(); ++s) {
      probability_offsets.push_back(probabilities);
      probabilities += c.heads * batch.length(s) * batch.length(s);
      longest = std::max(longest, batch.length(s));
    }
    layers.resize(c.layers);
    for (auto& l : layers) {
      const std::size_t after = &l == &layers.back() ? last_rows : rows;
      for (buffer* b : {&l.input, &l.attention_in}) b->shape(rows, c.dim);
      for (buffer* b : {&l.middle, &l.mlp_in}) b->shape(after, c.dim);
      for (buffer* b : {&l.q, &l.mixed}) b->shape(rows, c.q_dim());
      for (buffer* b : {&l.k, &l.v}) b->shape(rows, c.kv_dim());
      for (buffer* b : {&l.gate, &l.up, &l.product}) b->shape(after, c.hidden);
      l.probabilities.shape(1, probabilities);
    }
    for (buffer* b : {&d_stream, &d_normed}) b->shape(rows, c.dim);
    for (buffer* b : {&scored, &scored_normed, &d_scored, &d_scored_normed}) {
      b->shape(last_rows, c.dim);
    }
    for (buffer* b : {&scored_mixed, &d_scored_mixed}) b->shape(last_rows, c.q_dim());
    logits.shape(last_rows, c.vocab);
    for (buffer* b : {&d_mixed, &dq}) b->shape(rows, c.q_dim());
    for (buffer* b : {&dk, &dv}) b->shape(rows, c.kv_dim());
    for (buffer* b : {&d_gate, &d_up, &d_product}) b->shape(rows, c.hidden);
    std::fill_n(ones.shape(1, c.hidden).data, c.hidden, 1.0F);
    scratch.shape(1, std::max(attention_block * longest, c.dim));
    if (factors == nullptr) return;
    lora.resize(factors->sites().size());
    std::size_t widest = 0;
    for (std::size_t s = 0; s < lora.size(); ++s) {
      lora[s].shape(rows, factors->sites()[s].total);
      widest = std::max(widest, factors->sites()[s].total);
    }
    d_lora.shape(rows, widest);
    lora_gate.shape(1, widest);
  }
};

}  // namespace crayon::train
