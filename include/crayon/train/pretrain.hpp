// SPDX-License-Identifier: MIT
// Training of all weights, and of one adapter on a frozen model.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/train/trainer.hpp>

namespace crayon::train {

/// Trains every weight in place; norms do not decay. `next(step, packed_batch&)` adds the
/// sequences of that step to an empty batch.
template <kernel_backend B, learning_schedule S, class Next, executor X, class Progress = silent>
[[nodiscard]] result<training_report> pretrain(model::llama_weights<float>& weights,
                                               const training_options<S>& options, Next&& next,
                                               X& tasks, Progress&& progress = {}) {
  batch_gradient<B> gradient(weights, nullptr, trainable::weights, options.spread,
                             tasks.concurrency());
  const std::array<parameter_group, 2> groups{
      parameter_group{weights.matrices(), gradient.matrices(), true},
      parameter_group{weights.norms(), gradient.norms(), false}};
  return train_loop(
      gradient, weights.config(), std::span<const parameter_group>(groups), options,
      [&](std::size_t step, packed_batch& batch, matrix_view<const float>&) -> result<void> {
        next(step, batch);
        return {};
      },
      tasks, std::forward<Progress>(progress));
}

/// Trains the factors of one adapter in place; the model is frozen and may be llama_weights of f32,
/// bf16 or f16. `next` as for `pretrain`.
template <kernel_backend B, learning_schedule S, class Next, executor X, class Progress = silent,
          class Hooks = no_hooks>
[[nodiscard]] result<training_report> train_adapter(const base_weights& weights,
                                                    adapter::lora_adapter<float>& adapter,
                                                    const training_options<S>& options, Next&& next,
                                                    X& tasks, Progress&& progress = {},
                                                    Hooks&& hooks = {}) {
  CRAYON_TRY(lora_factors factors,
             lora_factors::from(weights.config(), std::span(&std::as_const(adapter), 1)));
  batch_gradient<B> gradient(weights, &factors, trainable::factors, options.spread,
                             tasks.concurrency());
  const std::array<parameter_group, 1> groups{
      parameter_group{factors.values(), gradient.factors(), true}};
  std::vector<float> ones;
  auto done = train_loop(
      gradient, weights.config(), std::span<const parameter_group>(groups), options,
      [&](std::size_t step, packed_batch& batch, matrix_view<const float>& w) -> result<void> {
        next(step, batch);
        ones.resize(std::max(ones.size(), batch.sequences()), 1.0F);
        w = {ones.data(), batch.sequences(), 1};
        return {};
      },
      tasks, std::forward<Progress>(progress), std::forward<Hooks>(hooks));
  factors.store(0, adapter);
  return done;
}

}  // namespace crayon::train
