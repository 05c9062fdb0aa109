// SPDX-License-Identifier: MIT
// The forward pass of a Llama model: one token, or a batch of a prompt's tokens at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/core/result.hpp>
#include <crayon/model/attention.hpp>
#include <crayon/model/delta.hpp>
#include <crayon/model/kv_cache.hpp>
#include <crayon/model/llama_weights.hpp>
#include <crayon/model/multiply.hpp>
#include <crayon/model/rope.hpp>

namespace crayon::model {

/// One sequence of tokens on its way through a model. The weights outlive it. It allocates when it
/// is constructed, and once more when it first meets a delta of a larger rank.
template <kernel_backend B, element E>
class llama_session {
 public:
  using backend = B;
  using element_type = E;

  /// Room for `context` tokens (0: the model's own), of which up to `max_batch` run together.
  explicit llama_session(const llama_weights<E>& weights, std::size_t context = 0,
                         std::size_t max_batch = 64)
      : weights_(&weights),
        layers_(weights.config().layers),
        context_(context == 0 ? weights.config().context : context),
        max_batch_(std::clamp<std::size_t>(max_batch, 1, std::max<std::size_t>(context_, 1))),
        rope_(config().head_dim, context_, config().rope_theta, config().scaling),
        cache_(config(), context_),
        x_(max_batch_ * config().dim),
        h_(max_batch_ * config().dim),
        q_(max_batch_ * config().q_dim()),
        k_(max_batch_ * config().kv_dim()),
        v_(max_batch_ * config().kv_dim()),
        heads_(max_batch_ * config().q_dim()),
        gate_(max_batch_ * config().hidden),
        up_(max_batch_ * config().hidden),
        scores_(config().heads * context_),
        hidden_(config().dim),
        logits_(std::min(max_batch_, logit_rows) * config().vocab) {}

  [[nodiscard]] const llama_weights<E>& weights() const noexcept { return *weights_; }
  [[nodiscard]] const llama_config& config() const noexcept { return weights_->config(); }
  [[nodiscard]] std::size_t context() const noexcept { return context_; }

  /// Tokens seen so far.
  [[nodiscard]] std::size_t position() const noexcept { return position_; }
  void reset() noexcept { position_ = 0; }
  /// Forgets all tokens after the first `position`, so that another continuation can follow them.
  void rewind(std::size_t position) noexcept {
    CRAYON_ASSERT(position <= position_);
    position_ = position;
  }

  /// Only the first `count` blocks run from now on (0: all of them); states and logits are the
  /// final norm and the head of what those leave. No tokens may have been seen yet.
  void use_layers(std::size_t count) noexcept {
    CRAYON_ASSERT(position_ == 0 && count <= config().layers);
    layers_ = count == 0 ? config().layers : count;
  }

  /// Errors: a token id outside the vocabulary, more tokens than the context has room for.
  [[nodiscard]] result<void> check(std::span<const std::int32_t> tokens) const {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0 || static_cast<std::size_t>(tokens[i]) >= config().vocab) {
        return error{errc::bad_value,
                     "token " + std::to_string(i) + ": id " + std::to_string(tokens[i]) +
                         " is outside the vocabulary of " + std::to_string(config().vocab)};
      }
    }
    if (tokens.size() > context_ - position_) {
      return error{errc::bad_value, std::to_string(position_ + tokens.size()) +
                                        " tokens do not fit the context of " +
                                        std::to_string(context_)};
    }
    return {};
  }

  /// The next token -> logits (vocab) of the one after it, the caller's to overwrite until the next
  /// call. Precondition here and below: `check` of the tokens succeeds.
  template <adapter_delta D = no_delta, executor_reference X = serial_executor>
  std::span<float> forward(std::int32_t token, const D& delta = {}, X&& threads = X{}) {
    return prefill({&token, 1}, delta, threads);
  }

  /// The next tokens, at least one -> logits (vocab) after the last of them.
  template <adapter_delta D = no_delta, executor_reference X = serial_executor>
  std::span<float> prefill(std::span<const std::int32_t> tokens, const D& delta = {},
                           X&& threads = X{}) {
    CRAYON_ASSERT(!tokens.empty());
    std::size_t last = 0;
    for (std::size_t i = 0; i < tokens.size(); i += max_batch_) {
      const auto batch = tokens.subspan(i, std::min(max_batch_, tokens.size() - i));
      layers(batch, delta, threads);
      last = batch.size() - 1;
    }
    normalise(last, hidden_.data());
    const matrix_view<const float> hidden{hidden_.data(), 1, config().dim};
    predict(hidden, logits(1), delta, threads);
    return {logits_.data(), config().vocab};
  }

  /// The last token's state after the final norm (dim): what the logits are computed from.
  [[nodiscard]] std::span<const float> hidden() const noexcept { return hidden_; }

  /// Calls visit(i, hidden) for each of the next tokens; `hidden` (dim) is the state of token i
  /// after the final norm. Computes no logits.
  template <class Visit, adapter_delta D = no_delta, executor_reference X = serial_executor>
    requires std::is_invocable_v<Visit&, std::size_t, std::span<const float>>
  void for_each_hidden(std::span<const std::int32_t> tokens, Visit&& visit, const D& delta = {},
                       X&& threads = X{}) {
    for (std::size_t i = 0; i < tokens.size(); i += max_batch_) {
      const auto batch = tokens.subspan(i, std::min(max_batch_, tokens.size() - i));
      layers(batch, delta, threads);
      for (std::size_t t = 0; t < batch.size(); ++t) {
        normalise(t, hidden_.data());
        visit(i + t, hidden());
      }
    }
  }

  /// Calls visit(i, logits) for each of the next tokens; `logits` (vocab) is what follows token i,
  /// the visitor's to overwrite.
  template <class Visit, adapter_delta D = no_delta, executor_reference X = serial_executor>
    requires std::is_invocable_v<Visit&, std::size_t, std::span<float>>
  void for_each_logits(std::span<const std::int32_t> tokens, Visit&& visit, const D& delta = {},
                       X&& threads = X{}) {
    for (std::size_t i = 0; i < tokens.size(); i += max_batch_) {
      const auto batch = tokens.subspan(i, std::min(max_batch_, tokens.size() - i));
      layers(batch, delta, threads);
      const matrix_view<float> hidden = view(h_, batch.size(), config().dim);
      for (std::size_t t = 0; t < batch.size(); ++t) normalise(t, hidden.row(t));
      std::copy_n(hidden.row(batch.size() - 1), config().dim, hidden_.begin());
      for (std::size_t t = 0; t < batch.size(); t += logit_rows) {
        const std::size_t count = std::min(logit_rows, batch.size() - t);
        predict(hidden.rows_from(t, count), logits(count), delta, threads);
        for (std::size_t j = 0; j < count; ++j) {
          visit(i + t + j, std::span<float>(logits(count).row(j), config().vocab));
        }
      }
    }
  }

  /// Of states (n, dim) after the final norm and the tokens (n) that follow them: errors (n, dim) =
  /// e(next) - sum_v p(v) e(v), e the rows of the head, which is minus the gradient of the loss of
  /// `next` by the state. Overwrites the last logits. What a delta adds to the head is left
  /// out.
  template <adapter_delta D = no_delta, executor_reference X = serial_executor>
  void prediction_errors(matrix_view<const float> hidden, std::span<const std::int32_t> next,
                         matrix_view<float> errors, const D& = {}, X&& threads = X{}) {
    const std::size_t most = std::min(max_batch_, logit_rows);
    for (std::size_t t = 0; t < hidden.rows; t += most) {
      const std::size_t count = std::min(most, hidden.rows - t);
      const matrix_view<float> p = logits(count);
      multiply<B>(weights_->head(), hidden.rows_from(t, count), p, false, threads);
      for (std::size_t j = 0; j < count; ++j) {
        B::softmax(p.row(j), p.cols);
        for (std::size_t v = 0; v < p.cols; ++v) p(j, v) = -p(j, v);
        p(j, static_cast<std::size_t>(next[t + j])) += 1;
      }
      multiply_back<B>(weights_->head(), p, errors.rows_from(t, count), threads);
    }
  }

 private:
  /// Rows of logits that are computed together: a vocabulary can be a thousand times `dim`.
  static constexpr std::size_t logit_rows = 8;

  template <class D, class X>
  void layers(std::span<const std::int32_t> tokens, const D& delta, X& threads) {
    const llama_config& c = config();
    const std::size_t n = tokens.size();
    CRAYON_ASSERT(n <= max_batch_ && position_ + n <= context_);
    if (scratch_.size() < max_batch_ * delta.scratch_size()) {
      scratch_.resize(max_batch_ * delta.scratch_size());
    }
    const matrix_view<float> x = view(x_, n, c.dim), h = view(h_, n, c.dim),
                             q = view(q_, n, c.q_dim()), k = view(k_, n, c.kv_dim()),
                             v = view(v_, n, c.kv_dim()), heads = view(heads_, n, c.q_dim()),
                             gate = view(gate_, n, c.hidden), up = view(up_, n, c.hidden);

    for (std::size_t t = 0; t < n; ++t) embed(tokens[t], x.row(t));
    delta.add_embedding(tokens, x, scratch_.data());
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      for (std::size_t t = 0; t < n; ++t) {
        B::rms_norm(x.row(t), weights_->attention_norm(layer), c.norm_epsilon, h.row(t), c.dim);
      }
      linear(layer, projection::q, h, q, false, delta, threads);
      linear(layer, projection::k, h, k, false, delta, threads);
      linear(layer, projection::v, h, v, false, delta, threads);
      for (std::size_t t = 0; t < n; ++t)
        remember(layer, position_ + t, q.row(t), k.row(t), v.row(t));
      attention(layer, q, heads, threads);
      linear(layer, projection::o, heads, x, true, delta, threads);

      for (std::size_t t = 0; t < n; ++t) {
        B::rms_norm(x.row(t), weights_->mlp_norm(layer), c.norm_epsilon, h.row(t), c.dim);
      }
      linear(layer, projection::gate, h, gate, false, delta, threads);
      linear(layer, projection::up, h, up, false, delta, threads);
      B::silu_mul(gate.data, up.data, gate.data, gate.size());
      linear(layer, projection::down, gate, x, true, delta, threads);
    }
    position_ += n;
  }

  void embed(std::int32_t token, float* x) const {
    CRAYON_ASSERT(token >= 0 && static_cast<std::size_t>(token) < config().vocab);
    const E* row = weights_->embedding().row(static_cast<std::size_t>(token));
    for (std::size_t j = 0; j < config().dim; ++j) x[j] = to_float(row[j]);
  }

  /// Rotates q in place, and k on its way into the cache.
  void remember(std::size_t layer, std::size_t position, float* q, const float* k, const float* v) {
    const std::size_t d = config().head_dim;
    for (std::size_t head = 0; head < config().heads; ++head) rope_.rotate(q + head * d, position);
    for (std::size_t head = 0; head < config().kv_heads; ++head) {
      float* key = cache_.keys(layer, head).row(position);
      std::copy_n(k + head * d, d, key);
      rope_.rotate(key, position);
      std::copy_n(v + head * d, d, cache_.values(layer, head).row(position));
    }
  }

  template <class X>
  void attention(std::size_t layer, matrix_view<const float> q, matrix_view<float> out,
                 X& threads) {
    const llama_config& c = config();
    const std::size_t group = c.heads / c.kv_heads, n = q.rows;
    const std::size_t work = 2 * n * (position_ + n) * c.q_dim();
    split(threads, work, c.heads, 1, [&](std::size_t first, std::size_t last) {
      for (std::size_t head = first; head < last; ++head) {
        const matrix_view<const float> keys = cache_.keys(layer, head / group);
        const matrix_view<const float> values = cache_.values(layer, head / group);
        for (std::size_t t = 0; t < n; ++t) {
          const std::size_t seen = position_ + t + 1;
          attend<B>(q.row(t) + head * c.head_dim, keys.rows_from(0, seen),
                    values.rows_from(0, seen), scores_.data() + head * context_,
                    out.row(t) + head * c.head_dim);
        }
      }
    });
  }

  /// y (+)= x (W + dW)^T
  template <class D, class X>
  void linear(std::size_t layer, projection p, matrix_view<const float> x, matrix_view<float> y,
              bool accumulate, const D& delta, X& threads) {
    multiply<B>(weights_->linear(layer, p), x, y, accumulate, threads);
    delta.add(llama_config::site(layer, p), x, y, scratch_.data());
  }

  /// Normalised states -> logits.
  template <class D, class X>
  void predict(matrix_view<const float> x, matrix_view<float> y, const D& delta, X& threads) {
    multiply<B>(weights_->head(), x, y, false, threads);
    delta.add(config().head_site(), x, y, scratch_.data());
  }

  /// The final norm of row t of the current batch.
  void normalise(std::size_t t, float* out) const {
    const std::size_t d = config().dim;
    B::rms_norm(x_.data() + t * d, weights_->final_norm(), config().norm_epsilon, out, d);
  }

  [[nodiscard]] static matrix_view<float> view(aligned_vector<float>& memory, std::size_t rows,
                                               std::size_t cols) noexcept {
    return {memory.data(), rows, cols};
  }
  [[nodiscard]] matrix_view<float> logits(std::size_t rows) noexcept {
    return view(logits_, rows, config().vocab);
  }

  const llama_weights<E>* weights_;
  std::size_t layers_;
  std::size_t context_;
  std::size_t max_batch_;
  std::size_t position_ = 0;
  rope_table rope_;
  kv_cache cache_;
  aligned_vector<float> x_, h_, q_, k_, v_, heads_, gate_, up_;  // (max_batch, ...)
  aligned_vector<float> scores_;                                 // (heads, context)
  aligned_vector<float> hidden_;                                 // (dim)
  aligned_vector<float> logits_;                                 // (logit_rows, vocab)
  aligned_vector<float> scratch_;                                // of the delta
};

}  // namespace crayon::model
