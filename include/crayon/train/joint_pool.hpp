// SPDX-License-Identifier: MIT
// Joint training of all adapters of a pool, through the same blend and the same weights that
// deployment uses.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/train/balance.hpp>
#include <crayon/train/gate_policy.hpp>
#include <crayon/train/index_parameters.hpp>
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

namespace detail {

/// Whether a blend policy averages factors; the others that can be trained through are exact.
template <class Blend>
inline constexpr bool averages_factors = Blend::name() == std::string_view("linear");
template <class Blend>
inline constexpr bool is_exact =
    Blend::name() == std::string_view("concat") || Blend::name() == std::string_view("activations");

}  // namespace detail

/// d loss / d index (N, d) from the weights of a batch and w_i d loss / d w_i of them, both
/// (samples, N).
template <class M, differentiable_gate_policy<M> G>
void index_backward(const grouped_batch& batch, matrix_view<const float> index, const M& match,
                    const G& gates, matrix_view<const float> weights, std::span<const float> w_dw,
                    float balance, matrix_view<float> d_index) {
  std::vector<float> d(weights.size());
  const matrix_view<float> d_weights(d.data(), weights.rows, weights.cols);
  for (std::size_t k = 0; k < d.size(); ++k) {
    d[k] = weights.data[k] > 0 ? w_dw[k] / weights.data[k] : 0;
  }
  if (balance > 0) imbalance_backward(weights, balance, d_weights);
  const auto groups = batch.groups();
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const std::size_t first = groups[g];
    const std::size_t last = g + 1 < groups.size() ? groups[g + 1] : batch.samples();
    if (first == last) continue;
    gates.backward(match, index,
                   matrix_view<const float>(batch.embeddings().data() + first * index.cols,
                                            last - first, index.cols),
                   matrix_view<const float>(d_weights.rows_from(first, last - first)), d_index);
  }
}

namespace detail {

/// `joint_pool` with the blend as a number: by factors, or the exact sum.
template <kernel_backend B, class Index, learning_schedule S, matcher M, gate_policy<M> G,
          class Next, executor X, class Progress, class Hooks>
[[nodiscard]] result<training_report> train_jointly(
    bool by_factors, const base_weights& weights, std::span<adapter::lora_adapter<float>> adapters,
    const Index& index, const M& match, const G& gates, const training_options<S>& options,
    Next&& next, X& tasks, Progress&& progress, Hooks&& hooks) {
  constexpr bool moves = std::is_same_v<Index, trained_index>;
  const matrix_view<const float> rows = [&] {
    if constexpr (moves) {
      return matrix_view<const float>(index.rows);
    } else {
      return matrix_view<const float>(index);
    }
  }();
  if (rows.rows != adapters.size()) {
    return error{errc::bad_shape, std::to_string(adapters.size()) + " adapters and " +
                                      std::to_string(rows.rows) + " index vectors"};
  }
  CRAYON_TRY(lora_factors factors, lora_factors::from(weights.config(), adapters));
  factors.blend_factor_wise(by_factors);
  batch_gradient<B> gradient(weights, &factors, trainable::factors, options.spread,
                             tasks.concurrency());
  std::vector<parameter_group> groups{{factors.values(), gradient.factors(), true}};
  grouped_batch grouped;
  std::vector<float> per_sequence;
  const auto fill = [&](std::size_t step, packed_batch& batch,
                        matrix_view<const float>& w) -> result<void> {
    grouped.clear();
    next(step, grouped);
    CRAYON_CHECK(adapter_weights(grouped, rows, match, gates, per_sequence));
    batch = grouped.sequences();
    w = {per_sequence.data(), batch.sequences(), adapters.size()};
    return {};
  };
  result<training_report> done = training_report{};
  if constexpr (moves) {
    static_assert(differentiable_gate_policy<G, M>,
                  "index vectors are trained through a matcher and a gate policy with backward()");
    gradient.want_gates();
    detail::index_parameters parameters(index);
    groups.push_back(parameters.group());
    std::vector<float> d(rows.rows * rows.cols);
    const auto index_gradient = [&]() -> result<void> {
      std::fill(d.begin(), d.end(), 0.0F);
      const matrix_view<float> d_index(d.data(), rows.rows, rows.cols);
      index_backward(grouped, rows, match, gates,
                     matrix_view<const float>(per_sequence.data(), grouped.samples(), rows.rows),
                     gradient.gates(), index.balance, d_index);
      return parameters.gradient(rows, d_index);
    };
    detail::extra_gradient<std::remove_reference_t<Hooks>, decltype(index_gradient)> both{
        hooks, index_gradient};
    const auto fill_moved = [&](std::size_t step, packed_batch& batch,
                                matrix_view<const float>& w) {
      parameters.store(index.rows);
      return fill(step, batch, w);
    };
    done = train_loop(gradient, weights.config(), std::span<const parameter_group>(groups), options,
                      fill_moved, tasks, std::forward<Progress>(progress), both);
    parameters.store(index.rows);
  } else {
    done = train_loop(gradient, weights.config(), std::span<const parameter_group>(groups), options,
                      fill, tasks, std::forward<Progress>(progress), std::forward<Hooks>(hooks));
  }
  for (std::size_t i = 0; i < adapters.size(); ++i) factors.store(i, adapters[i]);
  return done;
}

}  // namespace detail

/// Trains adapters[i], which belongs to row i of `index` (N, d), in place; the model is frozen, and
/// may be llama_weights of f32, bf16 or f16.
/// Minimises the cross-entropy of model + blend(adapters, w), blended as `Blend` does it, w from
/// `gates` and `match` for each sample. `next(step, grouped_batch&)` adds the groups of that step
/// to an empty batch. To start all adapters from one, pass copies of it. `Index` is a
/// `matrix_view<const float>`, which stays as it is, or a `trained_index`. `hooks`: see `no_hooks`.
template <kernel_backend B, class Blend = blend::concat, class Index, learning_schedule S,
          matcher M, gate_policy<M> G, class Next, executor X, class Progress = silent,
          class Hooks = no_hooks>
[[nodiscard]] result<training_report> joint_pool(const base_weights& weights,
                                                 std::span<adapter::lora_adapter<float>> adapters,
                                                 const Index& index, const M& match, const G& gates,
                                                 const training_options<S>& options, Next&& next,
                                                 X& tasks, Progress&& progress = {},
                                                 Hooks&& hooks = {}) {
  static_assert(detail::is_exact<Blend> || detail::averages_factors<Blend>,
                "a pool is trained through concat, activations or linear");
  return detail::train_jointly<B>(detail::averages_factors<Blend>, weights, adapters, index, match,
                                  gates, options, std::forward<Next>(next), tasks,
                                  std::forward<Progress>(progress), std::forward<Hooks>(hooks));
}

}  // namespace crayon::train
