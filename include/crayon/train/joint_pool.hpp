// SPDX-License-Identifier: MIT
// Joint training of all adapters of a pool, through the same exact blend and the same weights that
// deployment uses.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/train/gate_policy.hpp>
#include <crayon/train/trainer.hpp>

namespace crayon::train {

/// The sequences of one step in groups; a group is what one user brings.
class grouped_batch {
 public:
  void clear() noexcept {
    sequences_.clear();
    embeddings_.clear();
    groups_.clear();
    samples_ = 0;
  }

  /// The samples added from here on belong together.
  void begin_group() { groups_.push_back(samples_); }

  /// `embedding` is f(x) of the sample, a unit vector as long as an index vector of the pool.
  void add(std::span<const std::int32_t> tokens, std::size_t first_scored,
           std::span<const float> embedding) {
    if (groups_.empty()) begin_group();
    sequences_.add(tokens, first_scored);
    embeddings_.insert(embeddings_.end(), embedding.begin(), embedding.end());
    ++samples_;
  }

  [[nodiscard]] const packed_batch& sequences() const noexcept { return sequences_; }
  [[nodiscard]] std::span<const float> embeddings() const noexcept { return embeddings_; }
  /// The first sample of each group.
  [[nodiscard]] std::span<const std::size_t> groups() const noexcept { return groups_; }
  [[nodiscard]] std::size_t samples() const noexcept { return samples_; }

 private:
  packed_batch sequences_;
  std::vector<float> embeddings_;
  std::vector<std::size_t> groups_;
  std::size_t samples_ = 0;
};

/// Weights of every sample of the batch, (samples, N), into `weights`.
template <matcher M, gate_policy<M> G>
[[nodiscard]] result<void> adapter_weights(const grouped_batch& batch,
                                           matrix_view<const float> index, const M& match,
                                           const G& gates, std::vector<float>& weights) {
  const std::size_t samples = batch.samples(), width = index.cols;
  if (batch.embeddings().size() != samples * width) {
    return error{errc::bad_shape, std::to_string(samples) + " embeddings have " +
                                      std::to_string(batch.embeddings().size()) +
                                      " numbers, index vectors of width " + std::to_string(width) +
                                      " need " + std::to_string(samples * width)};
  }
  weights.resize(samples * index.rows);
  const auto groups = batch.groups();
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const std::size_t first = groups[g];
    const std::size_t last = g + 1 < groups.size() ? groups[g + 1] : samples;
    if (first == last) continue;
    gates(match, index,
          matrix_view<const float>(batch.embeddings().data() + first * width, last - first, width),
          matrix_view<float>(weights.data() + first * index.rows, last - first, index.rows));
  }
  return {};
}

/// Trains adapters[i], which belongs to row i of `index` (N, d), in place; the model is frozen.
/// Minimises the cross-entropy of model + sum_i w_i adapter_i, w from `gates` and `match` for each
/// sample. `next(step, grouped_batch&)` adds the groups of that step to an empty batch. To start
/// all adapters from one, pass copies of it.
template <kernel_backend B, learning_schedule S, matcher M, gate_policy<M> G, class Next,
          executor X, class Progress = silent>
[[nodiscard]] result<training_report> joint_pool(const model::llama_weights<float>& weights,
                                                 std::span<adapter::lora_adapter<float>> adapters,
                                                 matrix_view<const float> index, const M& match,
                                                 const G& gates, const training_options<S>& options,
                                                 Next&& next, X& tasks, Progress&& progress = {}) {
  if (index.rows != adapters.size()) {
    return error{errc::bad_shape, std::to_string(adapters.size()) + " adapters and " +
                                      std::to_string(index.rows) + " index vectors"};
  }
  CRAYON_TRY(lora_factors factors, lora_factors::from(weights.config(), adapters));
  batch_gradient<B> gradient(weights, &factors, trainable::factors, options.spread,
                             tasks.concurrency());
  const std::array<parameter_group, 1> groups{
      parameter_group{factors.values(), gradient.factors(), true}};
  grouped_batch grouped;
  std::vector<float> per_sequence;
  auto done = train_loop(
      gradient, weights.config(), std::span<const parameter_group>(groups), options,
      [&](std::size_t step, packed_batch& batch, matrix_view<const float>& w) -> result<void> {
        grouped.clear();
        next(step, grouped);
        CRAYON_CHECK(adapter_weights(grouped, index, match, gates, per_sequence));
        batch = grouped.sequences();
        w = {per_sequence.data(), batch.sequences(), adapters.size()};
        return {};
      },
      tasks, std::forward<Progress>(progress));
  for (std::size_t i = 0; i < adapters.size(); ++i) factors.store(i, adapters[i]);
  return done;
}

}  // namespace crayon::train
