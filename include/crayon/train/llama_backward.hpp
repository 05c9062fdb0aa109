// SPDX-License-Identifier: MIT
// Loss and gradients of a Llama model over packed sequences: all weights, adapters, or both.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include <crayon/concepts.hpp>
#include <crayon/model/rope.hpp>
#include <crayon/train/base_weights.hpp>
#include <crayon/train/batch.hpp>
#include <crayon/train/elementwise.hpp>
#include <crayon/train/frozen_panels.hpp>
#include <crayon/train/gated_lora.hpp>
#include <crayon/train/gradient_sink.hpp>
#include <crayon/train/llama_buffers.hpp>
#include <crayon/train/scored_loss.hpp>

namespace crayon::train {

/// One forward and backward pass; one object per thread.
template <kernel_backend B>
class llama_backward {
 public:
  using const_matrix = matrix_view<const float>;
  using matrix = matrix_view<float>;

  /// `factors` may be null. What these refer to must outlive the object. `panels` (or null) stand
  /// for the projections of a frozen model; before each pass with merged ones, they must hold the
  /// factors.
  llama_backward(const base_weights& weights, const model::rope_table& rope,
                 const lora_factors* factors, keeping keeps = {},
                 const frozen_panels* panels = nullptr)
      : weights_(weights), rope_(&rope), factors_(factors), keeps_(keeps), panels_(panels) {
    CRAYON_ASSERT(weights.config().layers > 0);
  }

  /// Used from the next pass on.
  void drop(const adapter_dropout& mask) noexcept { dropout_ = mask; }

  /// Bytes of activations and their gradients; they grow to what the largest pass needed.
  [[nodiscard]] std::size_t bytes() const noexcept { return buffers_.bytes(); }

  /// Adds scale * d(sum of -log p(target)) / d(weights) to `sink` and returns the unscaled sum.
  /// `adapter_weights` (sequences of the whole batch, N) is read only when there are factors, and
  /// then `sink.factors` must be there in a backward pass. Gradients of weights need f32 ones.
  loss_sum operator()(const batch_view& batch, const_matrix adapter_weights, float scale,
                      const gradient_sink& sink) {
    buffers_.fit(weights_.config(), batch, factors_, keeps_, dropout_.on(), merged());
    if (buffers_.scored_rows.empty()) return {};
    batch_ = &batch;
    scored_ = {{}, {}, buffers_.scored_offsets, batch.first_sequence};
    adapter_weights_ = adapter_weights;
    sink_ = sink;
    const auto& c = weights_.config();
    base_rows(weights_.embedding(), batch.inputs, stream(0));
    for (std::size_t layer = 0; layer < c.layers; ++layer) {
      attention_block_forward(layer);
      mlp_block_forward(layer, true);
      if (!sink_.frozen()) buffers_.keep(layer);
    }
    const loss_sum sum = scored_loss<B>(weights_, buffers_, sink_, scale);
    if (sink_.frozen()) return sum;
    for (std::size_t layer = c.layers; layer-- > 0;) {
      restore(layer);
      mlp_block_backward(layer);
      attention_block_backward(layer);
    }
    if (sink_.matrices != nullptr) {
      embedding_backward(buffers_.d_stream.view(), batch.inputs, gradient(weights_.embedding()));
    }
    return sum;
  }

 private:
  using projection = model::projection;

  [[nodiscard]] matrix stream(std::size_t layer) noexcept {
    return layer < weights_.config().layers ? buffers_.input(layer) : buffers_.scored.view();
  }

  /// The gradient of a matrix of the weights.
  [[nodiscard]] matrix gradient(const base_matrix& weight) const noexcept {
    return {sink_.matrices + weight.offset, weight.rows, weight.cols};
  }
  [[nodiscard]] float* gradient(const float* norm) const noexcept {
    return sink_.norms == nullptr ? nullptr : sink_.norms + (norm - weights_.norms().data());
  }

  [[nodiscard]] const lora_site* adapted(std::size_t layer, projection p) const noexcept {
    return factors_ == nullptr ? nullptr : factors_->find(model::llama_config::site(layer, p));
  }

  [[nodiscard]] bool is_last(std::size_t layer) const noexcept {
    return layer + 1 == weights_.config().layers;
  }

  /// The rows that pass through that projection: after the last attention only the scored ones.
  [[nodiscard]] const batch_view& batch_of(std::size_t layer, projection p) const noexcept {
    return is_last(layer) && p >= projection::o ? scored_ : *batch_;
  }

  [[nodiscard]] bool merged() const noexcept { return panels_ != nullptr && panels_->merged(); }

  /// The mask of that site over the rows that pass through it.
  [[nodiscard]] site_dropout dropout_of(std::size_t layer, projection p) const noexcept {
    if (!dropout_.on()) return {};
    const bool scored = &batch_of(layer, p) == &scored_;
    return {dropout_, model::llama_config::site(layer, p), batch_->offsets[0],
            scored ? std::span<const std::size_t>(buffers_.scored_rows)
                   : std::span<const std::size_t>(),
            buffers_.dropped.data()};
  }

  /// y (+)= x W^T + adapters.
  void linear_forward(std::size_t layer, projection p, const_matrix x, matrix y, bool accumulate) {
    const base_matrix w = weights_.linear(layer, p);
    if (panels_ != nullptr) {
      panels_->template forward<B>(model::llama_config::site(layer, p), w, x, y, accumulate);
      if (merged()) return;
    } else {
      base_forward<B>(x, w, y, accumulate);
    }
    if (const lora_site* site = adapted(layer, p)) {
      gated_lora_forward<B>(*site, factors_->values().data(), batch_of(layer, p), adapter_weights_,
                            x, buffers_.gated(*site, layer, p), y, buffers_.lora_gate.data(),
                            dropout_of(layer, p));
    }
  }

  /// dW += dy^T x, dx (+)= dy W, and the same through the adapters; an empty dx is not wanted.
  void linear_backward(std::size_t layer, projection p, const_matrix x, const_matrix dy, matrix dx,
                       bool accumulate) {
    const base_matrix w = weights_.linear(layer, p);
    if (sink_.matrices != nullptr) B::gemm_tn(dy, x, gradient(w), true);
    if (!dx.empty() && panels_ != nullptr) {
      panels_->template backward<B>(model::llama_config::site(layer, p), w, dy, dx, accumulate);
    } else if (!dx.empty()) {
      base_backward<B>(dy, w, dx, accumulate);
    }
    if (const lora_site* site = adapted(layer, p)) {
      const matrix gated = buffers_.gated(*site, layer, p);
      if (merged()) {
        gated_lora_rows<B>(*site, factors_->values().data(), batch_of(layer, p), adapter_weights_,
                           x, gated, buffers_.lora_gate.data(), dropout_of(layer, p));
        dx = {};
      }
      gated_lora_backward<B>(*site, factors_->values().data(), batch_of(layer, p), adapter_weights_,
                             x, gated, dy, dx, sink_.factors,
                             matrix(buffers_.d_lora.data(), dy.rows, site->total),
                             buffers_.lora_gate.data(), sink_.gates, dropout_of(layer, p));
    }
  }

  [[nodiscard]] attention_shape heads() const noexcept {
    const auto& c = weights_.config();
    return {c.heads, c.kv_heads, c.head_dim};
  }

  /// What the backward pass of that layer reads is in memory again.
  void restore(std::size_t layer) {
    if (is_last(layer) || !buffers_.one_layer()) return;
    auto& l = buffers_.fit_layer(layer);
    buffers_.recall(layer);
    if (keeps_.inputs_only) {
      attention_block_forward(layer);
      mlp_block_forward(layer, false);
      return;
    }
    rms_norm_forward<B>(stream(layer), weights_.attention_norm(layer), epsilon(),
                        l.attention_in.view());
    rms_norm_forward<B>(l.middle.view(), weights_.mlp_norm(layer), epsilon(), l.mlp_in.view());
    silu_mul_forward<B>(l.gate.view(), l.up.view(), l.product.view());
  }

  void attention_block_forward(std::size_t layer) {
    auto& l = buffers_.fit_layer(layer);
    rms_norm_forward<B>(stream(layer), weights_.attention_norm(layer), epsilon(),
                        l.attention_in.view());
    const const_matrix x = l.attention_in.view();
    linear_forward(layer, projection::q, x, l.q.view(), false);
    linear_forward(layer, projection::k, x, l.k.view(), false);
    linear_forward(layer, projection::v, x, l.v.view(), false);
    for (std::size_t s = 0; s < batch_->sequences(); ++s) {
      rope_forward(*rope_, rows_of(l.q, s));
      rope_forward(*rope_, rows_of(l.k, s));
      attention_forward<B>(heads(), rows_of(l.q, s), rows_of(l.k, s), rows_of(l.v, s),
                           l.probabilities.data() + buffers_.probability_offsets[s],
                           rows_of(l.mixed, s));
    }
    if (is_last(layer)) {
      gather_rows(l.mixed.view(), buffers_.scored_rows, buffers_.scored_mixed.view());
      gather_rows(stream(layer), buffers_.scored_rows, l.middle.view());
      linear_forward(layer, projection::o, buffers_.scored_mixed.view(), l.middle.view(), true);
    } else {
      copy_rows(stream(layer), l.middle.view());
      linear_forward(layer, projection::o, l.mixed.view(), l.middle.view(), true);
    }
  }

  void attention_block_backward(std::size_t layer) {
    auto& l = buffers_.of(layer);
    const matrix d_normed = needs_input_gradient(layer) ? buffers_.d_normed.view() : matrix{};
    if (is_last(layer)) {
      linear_backward(layer, projection::o, buffers_.scored_mixed.view(), buffers_.d_scored.view(),
                      buffers_.d_scored_mixed.view(), false);
      scatter_rows(buffers_.d_scored_mixed.view(), buffers_.scored_rows, buffers_.d_mixed.view());
      scatter_rows(buffers_.d_scored.view(), buffers_.scored_rows, buffers_.d_stream.view());
    } else {
      linear_backward(layer, projection::o, l.mixed.view(), buffers_.d_stream.view(),
                      buffers_.d_mixed.view(), false);
    }
    for (std::size_t s = 0; s < batch_->sequences(); ++s) {
      const matrix dq = rows_of(buffers_.dq, s), dk = rows_of(buffers_.dk, s);
      attention_backward<B>(heads(), rows_of(l.q, s), rows_of(l.k, s), rows_of(l.v, s),
                            l.probabilities.data() + buffers_.probability_offsets[s],
                            rows_of(buffers_.d_mixed, s), dq, dk, rows_of(buffers_.dv, s),
                            buffers_.scratch.data());
      rope_backward(*rope_, dq);
      rope_backward(*rope_, dk);
    }
    const const_matrix x = l.attention_in.view();
    linear_backward(layer, projection::q, x, buffers_.dq.view(), d_normed, false);
    linear_backward(layer, projection::k, x, buffers_.dk.view(), d_normed, true);
    linear_backward(layer, projection::v, x, buffers_.dv.view(), d_normed, true);
    if (d_normed.empty()) return;
    const float* norm = weights_.attention_norm(layer);
    rms_norm_backward<B>(stream(layer), norm, epsilon(), d_normed, buffers_.d_stream.view(),
                         gradient(norm), buffers_.scratch.data());
  }

  /// `whole`: the residual stream goes on, too.
  void mlp_block_forward(std::size_t layer, bool whole) {
    auto& l = buffers_.of(layer);
    rms_norm_forward<B>(l.middle.view(), weights_.mlp_norm(layer), epsilon(), l.mlp_in.view());
    linear_forward(layer, projection::gate, l.mlp_in.view(), l.gate.view(), false);
    linear_forward(layer, projection::up, l.mlp_in.view(), l.up.view(), false);
    silu_mul_forward<B>(l.gate.view(), l.up.view(), l.product.view());
    if (!whole) {
      const lora_site* site = adapted(layer, projection::down);
      if (site != nullptr && !merged()) {
        gated_lora_rows<B>(*site, factors_->values().data(), batch_of(layer, projection::down),
                           adapter_weights_, l.product.view(),
                           buffers_.gated(*site, layer, projection::down),
                           buffers_.lora_gate.data(), dropout_of(layer, projection::down));
      }
      return;
    }
    copy_rows(l.middle.view(), stream(layer + 1));
    linear_forward(layer, projection::down, l.product.view(), stream(layer + 1), true);
  }

  void mlp_block_backward(std::size_t layer) {
    auto& l = buffers_.of(layer);
    auto& b = buffers_;
    const auto part = [&](const buffer& whole) {
      return whole.view().rows_from(0, l.gate.view().rows);
    };
    const matrix d_stream = is_last(layer) ? b.d_scored.view() : b.d_stream.view();
    const matrix d_product = part(b.d_product), d_gate = part(b.d_gate), d_up = part(b.d_up);
    const matrix d_normed = part(b.d_normed);
    linear_backward(layer, projection::down, l.product.view(), d_stream, d_product, false);
    silu_mul_backward<B>(l.gate.view(), l.up.view(), d_product, d_gate, d_up);
    linear_backward(layer, projection::gate, l.mlp_in.view(), d_gate, d_normed, false);
    linear_backward(layer, projection::up, l.mlp_in.view(), d_up, d_normed, true);
    const float* norm = weights_.mlp_norm(layer);
    rms_norm_backward<B>(l.middle.view(), norm, epsilon(), d_normed, d_stream, gradient(norm),
                         b.scratch.data());
  }

  /// Below the first layer there is only the embedding.
  [[nodiscard]] bool needs_input_gradient(std::size_t layer) const noexcept {
    return layer > 0 || sink_.matrices != nullptr;
  }
  [[nodiscard]] float epsilon() const noexcept { return weights_.config().norm_epsilon; }

  [[nodiscard]] matrix rows_of(const buffer& rows, std::size_t sequence) const noexcept {
    return rows.view().rows_from(batch_->begin(sequence), batch_->length(sequence));
  }

  base_weights weights_;
  const model::rope_table* rope_;
  const lora_factors* factors_;
  keeping keeps_;
  const frozen_panels* panels_;
  adapter_dropout dropout_;
  llama_buffers buffers_;
  const batch_view* batch_ = nullptr;
  batch_view scored_;
  const_matrix adapter_weights_;
  gradient_sink sink_;
};

}  // namespace crayon::train
