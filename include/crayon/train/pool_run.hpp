// SPDX-License-Identifier: MIT
// The stages that a pool is made in, each resumable.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/train/checkpoint.hpp>
#include <crayon/train/joint_pool.hpp>
#include <crayon/train/pool_options.hpp>
#include <crayon/train/pretrain.hpp>

namespace crayon::train::detail {

/// What all stages of one run share.
template <kernel_backend B, executor X>
class pool_run {
 public:
  pool_run(const base_weights& weights, std::span<const tokenizer::encoded_sample> samples,
           const pool_options& options, checkpoint& saved, X& tasks, stage_progress progress)
      : weights_(weights),
        samples_(samples),
        options_(options),
        saved_(saved),
        tasks_(tasks),
        progress_(progress) {}

  [[nodiscard]] std::vector<adapter::site_shape> shapes() const {
    using model::projection;
    constexpr std::array every{projection::q,    projection::k,  projection::v,   projection::o,
                               projection::gate, projection::up, projection::down};
    const float alpha = options_.alpha > 0 ? options_.alpha : 2 * static_cast<float>(options_.rank);
    return lora_shapes(weights_.config(), options_.rank, alpha,
                       options_.targets.empty() ? std::span<const projection>(every)
                                                : std::span<const projection>(options_.targets));
  }

  /// Error: a rank that no matrix of the model has, of which the rest would be of no use.
  [[nodiscard]] static result<void> check_rank(std::span<const adapter::site_shape> shapes) {
    std::size_t rank = 0, useful = 0;
    for (const auto& s : shapes) {
      rank = std::max(rank, s.rank);
      useful = std::max(useful, std::min(s.in, s.out));
    }
    if (rank <= useful) return {};
    return error{errc::bad_value, "rank " + std::to_string(rank) +
                                      ": no matrix of this model has a rank above " +
                                      std::to_string(useful)};
  }

  /// Error: more than `options.memory`, by what is known before the run: the factors as they are
  /// given and as they learn, a gradient of them per shard and the optimizer's two moments, and the
  /// tokens and weights of a batch.
  [[nodiscard]] result<void> check_memory(std::span<const adapter::site_shape> shapes,
                                          std::size_t adapters) const {
    double numbers = 0, tokens = 0;
    for (const auto& s : shapes) {
      numbers += static_cast<double>(s.rank) * static_cast<double>(s.in + s.out);
    }
    for (const auto& s : samples_) tokens += static_cast<double>(s.ids.size());
    const auto& spread = options_.training.spread;
    const auto shards =
        static_cast<double>(spread.shards == 0 ? tasks_.concurrency() : spread.shards);
    const auto count = static_cast<double>(adapters);
    const double batch =
        static_cast<double>(options_.users) * static_cast<double>(options_.samples);
    const double bytes =
        sizeof(float) * (count * numbers * (4 + shards) +
                         batch * (tokens / static_cast<double>(samples_.size()) + count));
    if (options_.memory == 0 || bytes <= static_cast<double>(options_.memory)) return {};
    const auto gigabytes = [](double b) {
      char text[32];
      std::snprintf(text, sizeof text, "%.3g GB", b / 1e9);
      return std::string(text);
    };
    return error{errc::bad_value,
                 "adapters (" + std::to_string(adapters) + ") and batches (" +
                     std::to_string(options_.users) + " x " + std::to_string(options_.samples) +
                     " samples) of that size need more than " + gigabytes(bytes) + ", there are " +
                     gigabytes(static_cast<double>(options_.memory))};
  }

  /// One adapter alone, on samples that `members` numbers.
  result<void> one_adapter(const std::string& name, std::size_t steps,
                           std::span<const std::size_t> members, rng random,
                           adapter::lora_adapter<float>& adapter) {
    return stage(name, steps, {&adapter, 1}, {}, random,
                 [&](const auto& training, rng& from, auto&& progress, auto& hooks) {
                   const auto next = [&](std::size_t, packed_batch& batch) {
                     drawn_.clear();
                     for (std::size_t i = 0; i < options_.users * options_.samples; ++i) {
                       drawn_.push_back(members[from.below(members.size())]);
                       const auto& s = samples_[drawn_.back()];
                       batch.add(s.ids, s.prompt_tokens);
                     }
                   };
                   return train_adapter<B>(weights_, adapter, training, next, tasks_, progress,
                                           hooks);
                 });
  }

  /// All adapters, and `index` (adapters, width) where it is trained.
  result<void> joint(const std::string& name, std::span<adapter::lora_adapter<float>> adapters,
                     matrix_view<float> index, matrix_view<const float> places, user_draw draw,
                     rng random) {
    const match::cosine_softmax match{options_.tau};
    return stage(
        name, options_.steps, adapters, index, random,
        [&](const auto& training, rng& from, auto&& progress, auto& hooks) {
          const auto next = [&](std::size_t, grouped_batch& batch) {
            drawn_.clear();
            for (std::size_t user = 0; user < options_.users; ++user) {
              batch.begin_group();
              for (const std::size_t i : draw(options_.samples, from)) {
                batch.add(samples_[i].ids, samples_[i].prompt_tokens, {places.row(i), places.cols});
                drawn_.push_back(i);
              }
            }
          };
          const auto run = [&](const auto& rows) {
            return train_jointly<B>(options_.by_factors, weights_, adapters, rows, match,
                                    options_.weights, training, next, tasks_, progress, hooks);
          };
          return options_.train_index
                     ? run(trained_index{index, options_.index_rate, options_.balance})
                     : run(matrix_view<const float>(index));
        });
  }

  /// A stage that goes on from the checkpoint, or is what that has of it: `train(options, random,
  /// progress, hooks)` trains `adapters` and `index`, drawing by `random`.
  template <class Train>
  result<void> stage(const std::string& name, std::size_t steps,
                     std::span<adapter::lora_adapter<float>> adapters, matrix_view<float> index,
                     rng random, Train&& train) {
    if (saved_.finished(name)) return restore(name, adapters, index);
    auto hooks = saved_.hooks(name, random);
    auto training = options_.training;
    training.steps = steps;
    const auto progress = [&](const training_progress& now) { return progress_(name, now, steps); };
    CRAYON_CHECK(check(name, train(training, random, progress, hooks), steps));
    return finish(name, adapters, index);
  }

  /// Where a stage notes the samples of its last batch.
  [[nodiscard]] std::vector<std::size_t>& drawn() noexcept { return drawn_; }

  /// An error names the samples of its batch, and what is left to go on from.
  [[nodiscard]] result<void> check(const std::string& stage, result<training_report> done,
                                   std::size_t steps) {
    const auto from = [&] {
      return saved_.file().empty() || !saved_.kept()
                 ? std::string()
                 : "; " + saved_.file() + " holds the last good state";
    };
    if (!done) {
      std::string text = stage + ": " + done.error().text + "; samples";
      const std::size_t shown = std::min<std::size_t>(drawn_.size(), 8);
      for (std::size_t i = 0; i < shown; ++i) {
        text += (i == 0 ? " " : ", ") + std::to_string(drawn_[i] + 1);
      }
      if (shown < drawn_.size()) text += " and " + std::to_string(drawn_.size() - shown) + " more";
      return error{done.error().code, text + from()};
    }
    rows_ += done->rows;
    seconds_ += done->seconds;
    bytes_ = std::max(bytes_, done->bytes);
    if (done->steps == steps) return {};
    return error{errc::cancelled, stage + ": stopped after step " + std::to_string(done->steps) +
                                      " of " + std::to_string(steps) + from()};
  }

  /// After the last stage: its result is kept, and what all of them took.
  [[nodiscard]] result<void> end(pool_report& report) const {
    report.rows = rows_;
    report.seconds = seconds_;
    report.bytes = bytes_;
    return saved_.end();
  }

  /// Factors and index vectors as one row of numbers, and back.
  result<void> finish(const std::string& stage, std::span<adapter::lora_adapter<float>> adapters,
                      matrix_view<const float> index) {
    CRAYON_TRY(const lora_factors factors, lora_factors::from(weights_.config(), adapters));
    std::vector<float> all(factors.values().begin(), factors.values().end());
    all.insert(all.end(), index.data, index.data + index.size());
    saved_.finish(stage, all);
    return {};
  }
  result<void> restore(const std::string& stage, std::span<adapter::lora_adapter<float>> adapters,
                       matrix_view<float> index) {
    CRAYON_TRY(lora_factors factors, lora_factors::from(weights_.config(), adapters));
    const auto all = saved_.values(stage);
    const std::size_t count = factors.values().size();
    if (all.size() != count + index.size()) {
      return error{errc::bad_shape, saved_.file() + ": " + stage + " has " +
                                        std::to_string(all.size()) + " numbers, needs " +
                                        std::to_string(count + index.size())};
    }
    std::copy_n(all.data(), count, factors.values().data());
    for (std::size_t i = 0; i < adapters.size(); ++i) factors.store(i, adapters[i]);
    std::copy_n(all.data() + count, index.size(), index.data);
    return {};
  }

 private:
  base_weights weights_;
  std::span<const tokenizer::encoded_sample> samples_;
  const pool_options& options_;
  checkpoint& saved_;
  X& tasks_;
  stage_progress progress_;
  std::vector<std::size_t> drawn_;  // samples of the last batch
  std::size_t rows_ = 0, bytes_ = 0;
  double seconds_ = 0;
};

}  // namespace crayon::train::detail
