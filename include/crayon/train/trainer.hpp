// SPDX-License-Identifier: MIT
// The training loop that pretraining, adapter training and joint pool training share.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/train/adamw.hpp>
#include <crayon/train/gradient.hpp>
#include <crayon/train/schedule.hpp>

namespace crayon::train {

template <learning_schedule S = chosen_schedule>
struct training_options {
  std::size_t steps = 1000;
  S schedule;
  adamw_options optimizer;
  float clip = 1;  ///< largest global norm of a gradient; 0: no limit
  sharding spread;
  std::size_t accumulate = 1;  ///< batches per step, whose scored tokens count alike
  adapter_dropout dropout;     ///< of what adapters read; none: rate 0
};

/// One finished step.
struct training_progress {
  std::size_t step = 0;      ///< from 0
  double loss = 0;           ///< nats per scored token of this batch, before the update
  double accuracy = 0;       ///< part of the scored tokens that were the most likely one
  double gradient_norm = 0;  ///< before clipping
  float rate = 0;
  double tokens_per_second = 0;  ///< rows per second since the first step
};

/// A whole run.
struct training_report {
  std::size_t steps = 0;
  std::size_t rows = 0;
  double last_loss = 0;
  double seconds = 0;
  std::size_t bytes =
      0;  ///< gradients, activations and the optimizer's moments; not the parameters
};

/// Progress that nobody looks at.
struct silent {
  void operator()(const training_progress&) const noexcept {}
};

/// What else happens in a run: nothing. train/checkpoint.hpp has hooks that make runs resumable.
struct no_hooks {
  /// Before the first step; may restore the parameters and the optimizer. The step to begin with.
  [[nodiscard]] result<std::size_t> begin(std::span<const parameter_group>, adamw&) const {
    return std::size_t{0};
  }
  /// The gradient of the batch is there, the parameters are still the old ones.
  [[nodiscard]] result<void> after_gradient() const { return {}; }
  /// The parameters have been updated.
  [[nodiscard]] result<void> after_step(const training_progress&, std::span<const parameter_group>,
                                        const adamw&) const {
    return {};
  }
};

/// Calls `fill(number, batch, adapter_weights)`, which gives a packed batch and (sequences, N)
/// adapter weights, computes the gradient and updates `groups` (their gradients are views into
/// `gradient`). Batches are numbered through: a step has options.accumulate of them.
/// `progress(training_progress)` may return false to stop early; `hooks` has the members of
/// `no_hooks`. Error: a batch that does not fit the model, a loss or gradient that is not finite;
/// the parameters are then those of the step before.
template <kernel_backend B, learning_schedule S, class Fill, executor X, class Progress,
          class Hooks = no_hooks>
[[nodiscard]] result<training_report> train_loop(batch_gradient<B>& gradient,
                                                 const model::llama_config& config,
                                                 std::span<const parameter_group> groups,
                                                 const training_options<S>& options, Fill&& fill,
                                                 X& tasks, Progress&& progress,
                                                 Hooks&& hooks = {}) {
  using clock = std::chrono::steady_clock;
  adamw optimizer(options.optimizer);
  packed_batch batch;
  matrix_view<const float> adapter_weights;
  training_report report;
  CRAYON_TRY(const std::size_t first, hooks.begin(groups, optimizer));
  report.steps = first;
  const auto start = clock::now();
  const std::size_t pieces = std::max<std::size_t>(options.accumulate, 1);
  if (pieces > 1 && gradient.wants_gates()) {
    return error{errc::unsupported, "index vectors do not train with accumulated gradients"};
  }
  for (std::size_t step = first; step < options.steps; ++step) {
    const auto at = [&](std::string text) {
      return "training step " + std::to_string(step) + " (batch of " +
             std::to_string(batch.sequences()) + " sequences, " + std::to_string(batch.rows()) +
             " rows): " + std::move(text);
    };
    loss_sum sum;
    std::size_t loss_rows = 0;
    gradient.begin();
    for (std::size_t number = step * pieces; number < (step + 1) * pieces; ++number) {
      batch.clear();
      if (auto filled = fill(number, batch, adapter_weights); !filled) {
        return error{filled.error().code, at(filled.error().text)};
      }
      if (auto fits = batch.check(config); !fits) {
        return error{fits.error().code, at(fits.error().text)};
      }
      gradient.drop(options.dropout.at_step(number));
      sum += gradient.add(batch, adapter_weights, tasks);
      loss_rows += batch.loss_rows();
      report.rows += batch.rows();
    }
    gradient.finish(tasks);
    const auto scored = static_cast<double>(loss_rows);
    const double loss = sum.loss / scored, norm = gradient.norm();
    if (!std::isfinite(loss)) return error{errc::bad_value, at("loss is " + std::to_string(loss))};
    if (!std::isfinite(norm)) {
      return error{errc::bad_value, at("gradient norm is " + std::to_string(norm))};
    }
    if (auto good = hooks.after_gradient(); !good) {
      return error{good.error().code, at(good.error().text)};
    }
    const float rate = options.schedule.rate(step, options.steps);
    optimizer.step(groups, rate, clip_scale(norm, options.clip), tasks);
    report.steps = step + 1;
    report.last_loss = loss;
    report.bytes = gradient.bytes() + optimizer.bytes();
    report.seconds = std::chrono::duration<double>(clock::now() - start).count();
    const training_progress now{step, loss, static_cast<double>(sum.correct) / scored,
                                norm, rate, static_cast<double>(report.rows) / report.seconds};
    CRAYON_CHECK(hooks.after_step(now, groups, optimizer));
    if constexpr (std::is_same_v<std::invoke_result_t<Progress&, const training_progress&>, bool>) {
      if (!progress(now)) break;
    } else {
      progress(now);
    }
  }
  return report;
}

}  // namespace crayon::train
