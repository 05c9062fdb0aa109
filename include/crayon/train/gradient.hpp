// SPDX-License-Identifier: MIT
// The gradient of one batch, computed by several tasks and summed in a fixed order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/train/frozen_panels.hpp>
#include <crayon/train/llama_backward.hpp>

namespace crayon::train {

/// How a batch is spread over threads. The result depends on these numbers and on the backend, not
/// on the executor or on who ran what.
struct sharding {
  std::size_t shards = 0;  ///< tasks, each with a gradient of its own; 0: as many as the threads
  /// A pass takes sequences up to that many rows (at least one). 0: 128 where the model has at most
  /// `small_model` weights, so that what a pass reads and writes stays in the caches, else 512.
  std::size_t rows = 0;
  /// Only the input of each layer is kept from forward to backward, the rest is computed again:
  /// about a third more time for a fraction of the memory. The gradient is the same to the bit
  /// (where activations are f32).
  bool recompute = false;
  /// What the layers keep from forward to backward, rounded or not.
  activation_type activations = activation_type::f32;
  /// What panels of a frozen model's projections may take, in bytes; see `frozen_panels`. Models
  /// that need more are read as they are.
  std::size_t panels = std::size_t{64} << 20;
  /// In batches of at least that many rows whose sequences all have the same adapter weights, the
  /// adapters are merged into the panels.
  std::size_t merge_rows = 512;

  static constexpr std::size_t small_model = std::size_t{1} << 22;
};

/// Which parts of the model learn.
enum class trainable { weights, factors };

/// Computes gradients of the mean loss over the scored tokens of a batch.
template <kernel_backend B>
class batch_gradient {
 public:
  /// `factors` may be null for trainable::weights, which needs weights in f32. What these refer to
  /// must outlive the object.
  batch_gradient(const base_weights& weights, const lora_factors* factors, trainable what,
                 sharding spread, std::size_t threads)
      : rope_(weights.config().head_dim, weights.config().context, weights.config().rope_theta,
              weights.config().scaling),
        weights_(weights),
        adapters_(factors),
        merge_rows_(spread.merge_rows),
        rows_(spread.rows != 0                                   ? spread.rows
              : weights.matrices_size() <= sharding::small_model ? 128
                                                                 : 512),
        matrices_(what == trainable::weights ? weights.matrices_size() : 0),
        norms_(what == trainable::weights ? weights.norms().size() : 0),
        factors_(what == trainable::factors ? factors->values().size() : 0) {
    const std::size_t shards =
        std::max<std::size_t>(spread.shards == 0 ? threads : spread.shards, 1);
    CRAYON_ASSERT(what == trainable::factors || weights.storage() == stored_as::f32);
    has_panels_ =
        what == trainable::factors && frozen_panels::bytes_of(weights.config()) <= spread.panels;
    passes_.reserve(shards);
    for (std::size_t i = 0; i < shards; ++i) {
      passes_.emplace_back(weights, rope_, factors, keeping{spread.recompute, spread.activations},
                           has_panels_ ? &panels_ : nullptr);
    }
    sums_.resize(shards);
    gradients_.resize(shards);
    for (auto& g : gradients_) g.resize(matrices_ + norms_ + factors_);
    squares_.resize((gradients_[0].size() + grain - 1) / grain);
  }
  batch_gradient(const batch_gradient&) = delete;
  batch_gradient& operator=(const batch_gradient&) = delete;

  /// From now on gates() is computed, too; only where there are factors.
  void want_gates() noexcept { wants_gates_ = true; }
  [[nodiscard]] bool wants_gates() const noexcept { return wants_gates_; }

  /// What adapters read is dropped out by this mask in the gradients from now on (not in `loss`).
  void drop(const adapter_dropout& mask) noexcept { dropout_ = mask; }

  /// Sum over the batch; afterwards the gradient of the mean is in matrices(), norms(), factors().
  template <executor X>
  loss_sum compute(const packed_batch& batch, matrix_view<const float> adapter_weights, X& tasks) {
    begin();
    const loss_sum sum = add(batch, adapter_weights, tasks);
    finish(tasks);
    return sum;
  }

  /// From now on only these parts of the factors have a gradient; in their order.
  void learn_only(std::vector<factor_run> runs) { learning_ = std::move(runs); }

  /// The same in pieces: after begin(), any number of batches, then finish(), whose gradient is
  /// that of the mean over the scored tokens of all of them. gates() is of the last batch.
  void begin() noexcept {
    scored_ = 0;
    empty_ = true;
  }
  template <executor X>
  loss_sum add(const packed_batch& batch, matrix_view<const float> adapter_weights, X& tasks) {
    run(batch, adapter_weights, tasks, true);
    scored_ += batch.loss_rows();
    empty_ = false;
    return total();
  }
  template <executor X>
  void finish(X& tasks) {
    const float scale = 1 / static_cast<float>(std::max<std::size_t>(scored_, 1));
    if (!learning_.empty()) {
      tasks.parallel_for(gradients_.size(), [&](std::size_t shard) { clear_others(shard); });
    }
    tasks.parallel_for(squares_.size(), [&](std::size_t part) { reduce(part, scale); });
    for (float& g : gates_) g *= scale;
  }

  /// The loss alone.
  template <executor X>
  loss_sum loss(const packed_batch& batch, matrix_view<const float> adapter_weights, X& tasks) {
    run(batch, adapter_weights, tasks, false);
    return total();
  }

  [[nodiscard]] std::span<const float> matrices() const noexcept {
    return std::span<const float>(gradients_[0]).subspan(0, matrices_);
  }
  [[nodiscard]] std::span<const float> norms() const noexcept {
    return std::span<const float>(gradients_[0]).subspan(matrices_, norms_);
  }
  [[nodiscard]] std::span<const float> factors() const noexcept {
    return std::span<const float>(gradients_[0]).subspan(matrices_ + norms_, factors_);
  }

  /// Bytes of gradients, activations and what else a pass needs; activations grow to what the
  /// largest pass so far needed.
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = panels_.bytes();
    for (const auto& g : gradients_) sum += g.size() * sizeof(float);
    for (const auto& pass : passes_) sum += pass.bytes();
    return sum;
  }

  /// (sequences, N): w_i times the derivative of the mean loss by the adapter weight w_i.
  [[nodiscard]] std::span<const float> gates() const noexcept { return gates_; }

  /// Euclidean norm of the whole gradient, without gates().
  [[nodiscard]] double norm() const noexcept {
    double sum = 0;
    for (const double part : squares_) sum += part;
    return std::sqrt(sum);
  }

 private:
  static constexpr std::size_t grain = 16384;

  template <executor X>
  void run(const packed_batch& batch, matrix_view<const float> adapter_weights, X& tasks,
           bool backward) {
    split(batch);
    if (has_panels_) hold_panels(batch, adapter_weights, backward && dropout_.on(), tasks);
    if (wants_gates_) gates_.assign(batch.sequences() * adapter_weights.cols, 0.0F);
    tasks.parallel_for(passes_.size(), [&](std::size_t shard) {
      float* g = gradients_[shard].data();
      gradient_sink sink;
      if (backward) {
        if (empty_) std::fill(gradients_[shard].begin(), gradients_[shard].end(), 0.0F);
        if (matrices_ != 0) sink.matrices = g;
        if (matrices_ != 0) sink.norms = g + matrices_;
        if (factors_ != 0) sink.factors = g + matrices_ + norms_;
        if (wants_gates_) sink.gates = gates_.data();  // each shard has rows of its own
      }
      passes_[shard].drop(backward ? dropout_ : adapter_dropout{});
      loss_sum sum;
      std::size_t first = bounds_[shard];
      while (first < bounds_[shard + 1]) {
        std::size_t last = first + 1;
        const auto offsets = batch.offsets();
        while (last < bounds_[shard + 1] && offsets[last + 1] - offsets[first] <= rows_) ++last;
        sum += passes_[shard](sequences_of(batch, first, last), adapter_weights, 1, sink);
        first = last;
      }
      sums_[shard] = sum;
    });
  }

  /// Merged where all sequences have the same adapter weights, and rows enough to be worth it.
  template <executor X>
  void hold_panels(const packed_batch& batch, matrix_view<const float> w, bool drops, X& tasks) {
    bool alike = !drops && batch.rows() >= merge_rows_;
    for (std::size_t s = 1; alike && s < batch.sequences(); ++s) {
      alike = std::equal(w.row(s), w.row(s) + w.cols, w.row(0));
    }
    panels_.template hold<B>(weights_, adapters_, alike ? w.row(0) : nullptr, tasks);
  }

  /// Consecutive sequences for each shard, about the same number of rows.
  void split(const packed_batch& batch) {
    const std::size_t shards = passes_.size();
    bounds_.assign(1, 0);
    std::size_t s = 0;
    for (std::size_t shard = 1; shard <= shards; ++shard) {
      const std::size_t until = batch.rows() * shard / shards;
      while (s < batch.sequences() && batch.offsets()[s + 1] <= until) ++s;
      bounds_.push_back(s);
    }
  }

  void clear_others(std::size_t shard) noexcept {
    float* g = gradients_[shard].data() + matrices_ + norms_;
    std::size_t at = 0;
    for (const auto& run : learning_) {
      std::fill(g + at, g + run.offset, 0.0F);
      at = run.offset + run.count;
    }
    std::fill(g + at, g + factors_, 0.0F);
  }

  /// One part of all gradients: summed into the first, shard by shard, scaled, and its squares.
  void reduce(std::size_t part, float scale) noexcept {
    const std::size_t first = part * grain;
    const std::size_t n = std::min(grain, gradients_[0].size() - first);
    float* CRAYON_RESTRICT sum = gradients_[0].data() + first;
    for (std::size_t shard = 1; shard < gradients_.size(); ++shard) {
      const float* CRAYON_RESTRICT from = gradients_[shard].data() + first;
      for (std::size_t j = 0; j < n; ++j) sum[j] += from[j];
    }
    for (std::size_t j = 0; j < n; ++j) sum[j] *= scale;
    squares_[part] = double{B::sum_squares(sum, n)};
  }

  [[nodiscard]] loss_sum total() const noexcept {
    loss_sum sum;
    for (const auto& s : sums_) sum += s;
    return sum;
  }

  model::rope_table rope_;
  base_weights weights_;
  const lora_factors* adapters_;
  frozen_panels panels_;
  bool has_panels_ = false;
  std::size_t merge_rows_;
  std::size_t rows_;
  std::size_t matrices_, norms_, factors_;
  std::size_t scored_ = 0;  // of all batches since begin()
  bool empty_ = true;
  adapter_dropout dropout_;
  std::vector<factor_run> learning_;  // empty: all of them
  bool wants_gates_ = false;
  std::vector<float> gates_;
  std::vector<llama_backward<B>> passes_;
  std::vector<aligned_vector<float>> gradients_;
  std::vector<loss_sum> sums_;
  std::vector<std::size_t> bounds_;
  std::vector<double> squares_;
};

}  // namespace crayon::train
