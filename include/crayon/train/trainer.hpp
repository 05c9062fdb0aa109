// SPDX-License-Identifier: MIT
// The training loop that pretraining, adapter training and joint pool training share.
#pragma once

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

template <learning_schedule S = cosine_schedule>
struct training_options {
  std::size_t steps = 1000;
  S schedule;
  adamw_options optimizer;
  float clip = 1;  ///< largest global norm of a gradient; 0: no limit
  sharding spread;
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

/// Calls `fill(step, batch, adapter_weights)`, which gives a packed batch and (sequences, N)
/// adapter weights, computes the gradient and updates `groups` (their gradients are views into
/// `gradient`). `progress(training_progress)` may return false to stop early; `hooks` has the
/// members of `no_hooks`. Error: a batch that
/// does not fit the model, a loss or gradient that is not finite; the parameters are then those of
/// the step before.
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
  for (std::size_t step = first; step < options.steps; ++step) {
    const auto at = [&](std::string text) {
      return "training step " + std::to_string(step) + " (batch of " +
             std::to_string(batch.sequences()) + " sequences, " + std::to_string(batch.rows()) +
             " rows): " + std::move(text);
    };
    batch.clear();
    if (auto filled = fill(step, batch, adapter_weights); !filled) {
      return error{filled.error().code, at(filled.error().text)};
    }
    if (auto fits = batch.check(config); !fits) {
      return error{fits.error().code, at(fits.error().text)};
    }
    const loss_sum sum = gradient.compute(batch, adapter_weights, tasks);
    const double scored = static_cast<double>(batch.loss_rows());
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
    report.rows += batch.rows();
    report.last_loss = loss;
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
