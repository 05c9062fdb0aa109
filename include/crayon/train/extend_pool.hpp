// SPDX-License-Identifier: MIT
// One more adapter for a finished pool, whose adapters stay as they are. Needs Eigen and
// nlohmann_json.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/pool.hpp>
#include <crayon/adapter/pool_hash.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/match/top_k.hpp>
#include <crayon/train/build_pool.hpp>
#include <crayon/train/pool_options.hpp>
#include <crayon/train/pool_run.hpp>
#include <crayon/train/pool_start.hpp>

namespace crayon::train {

/// An adapter that a pool can take, and its place there.
struct pool_addition {
  adapter::lora_adapter<float> adapter;
  std::vector<float> index;  ///< (d)
  pool_report report;
};

namespace detail {

/// Errors of a pool that no adapter can be trained for, of options that do not apply to one.
[[nodiscard]] inline result<void> check_extension(const adapter::pool<float>& pool,
                                                  const std::string& base_hash,
                                                  const pool_options& o, std::size_t width) {
  const adapter::pool_info& info = pool.info();
  if (!info.base_hash.empty() && info.base_hash != base_hash) {
    return error{errc::mismatch, "the pool was made for the base model " + info.base_hash +
                                     ", this one is " + base_hash};
  }
  const bool softmax = info.matcher.empty() || info.matcher == match::cosine_softmax::name() ||
                       info.matcher == match::top_k::name();
  if (!softmax || info.centroids != 1) {
    return error{errc::unsupported,
                 "an adapter is added to pools with one index vector each and the matcher "
                 "cosine_softmax or top_k; this one has " +
                     std::to_string(info.centroids) + " and " + info.matcher};
  }
  if (pool.index().cols == 0 || pool.index().cols != width) {
    return error{errc::bad_shape, "the pool's index vectors have length " +
                                      std::to_string(pool.index().cols) + ", the samples' places " +
                                      std::to_string(width)};
  }
  if (o.train_index || o.balance > 0) {
    return error{errc::bad_value, "the index vectors of a finished pool do not learn"};
  }
  return {};
}

/// Batches for the adapter that learns. Of the tasks of a user (`user_mix`) the first is its own,
/// the others are those of any adapters: samples of these take part in the weights, by their index
/// vectors, and not in the loss.
class addition_users {
 public:
  addition_users(std::span<const tokenizer::encoded_sample> samples,
                 matrix_view<const float> places, matrix_view<const float> index,
                 match::top_k match, const pool_options& options)
      : samples_(samples), places_(places), index_(index), match_(match), options_(options) {}

  /// Adds the sequences of one step, and to `weights` a row of the pool's size for each.
  void draw(packed_batch& batch, std::vector<float>& weights, std::vector<std::size_t>& drawn,
            rng& random) {
    const std::size_t n = index_.rows, width = index_.cols;
    drawn.clear();
    std::vector<std::size_t> chosen;
    std::vector<float> group, rows(options_.samples * n);
    for (std::size_t user = 0; user < options_.users; ++user) {
      const auto [fewest, most] = options_.mix;
      chosen.assign(1, n - 1);
      while (chosen.size() < most) chosen.push_back(random.below(n));
      const std::size_t of = fewest + random.below(most - fewest + 1);
      group.clear();
      for (std::size_t s = 0; s < options_.samples; ++s) {
        const std::size_t slot = chosen[s % of];
        if (slot == n - 1) {
          const std::size_t i = random.below(samples_.size());
          batch.add(samples_[i].ids, samples_[i].prompt_tokens);
          drawn.push_back(i);
          group.insert(group.end(), places_.row(i), places_.row(i) + width);
        } else {
          group.insert(group.end(), index_.row(slot), index_.row(slot) + width);
        }
      }
      options_.weights(match_, index_,
                       matrix_view<const float>(group.data(), options_.samples, width),
                       matrix_view<float>(rows.data(), options_.samples, n));
      for (std::size_t s = 0; s < options_.samples; ++s) {
        if (chosen[s % of] != n - 1) continue;
        const auto row = rows.begin() + static_cast<std::ptrdiff_t>(s * n);
        weights.insert(weights.end(), row, row + static_cast<std::ptrdiff_t>(n));
      }
    }
  }

 private:
  std::span<const tokenizer::encoded_sample> samples_;
  matrix_view<const float> places_, index_;
  match::top_k match_;
  const pool_options& options_;
};

/// Trains the last of `adapters`, in the blend of all of them; the others are read alone.
/// `next(batch, weights)` fills an empty batch and its weights, (sequences, N).
template <kernel_backend B, class Next, executor X, class Progress, class Hooks>
[[nodiscard]] result<training_report> train_last(bool by_factors, const base_weights& weights,
                                                 std::span<adapter::lora_adapter<float>> adapters,
                                                 const training_options<>& options, Next&& next,
                                                 X& tasks, Progress&& progress, Hooks&& hooks) {
  CRAYON_TRY(lora_factors factors, lora_factors::from(weights.config(), adapters));
  factors.blend_factor_wise(by_factors);
  batch_gradient<B> gradient(weights, &factors, trainable::factors, options.spread,
                             tasks.concurrency());
  const std::size_t last = adapters.size() - 1;
  const auto runs = factors.runs_of(last);
  gradient.learn_only(runs);
  aligned_vector<float> own, d_own;
  const auto gather = [&](std::span<const float> block, aligned_vector<float>& to) {
    to.clear();
    for (const auto& run : runs) {
      const auto part = block.subspan(run.offset, run.count);
      to.insert(to.end(), part.begin(), part.end());
    }
  };
  const auto scatter = [&] {
    const float* from = own.data();
    for (const auto& run : runs) {
      std::copy_n(from, run.count, factors.values().data() + run.offset);
      from += run.count;
    }
  };
  gather(factors.values(), own);
  d_own.resize(own.size());
  const std::array<parameter_group, 1> groups{parameter_group{own, d_own, true}};
  std::vector<float> rows;
  const auto fill = [&](std::size_t, packed_batch& batch,
                        matrix_view<const float>& w) -> result<void> {
    scatter();
    rows.clear();
    next(batch, rows);
    w = {rows.data(), batch.sequences(), adapters.size()};
    return {};
  };
  const auto take = [&]() -> result<void> {
    gather(gradient.factors(), d_own);
    return {};
  };
  extra_gradient<std::remove_reference_t<Hooks>, decltype(take)> both{hooks, take};
  auto done = train_loop(gradient, weights.config(), std::span<const parameter_group>(groups),
                         options, fill, tasks, std::forward<Progress>(progress), both);
  scatter();
  factors.store(last, adapters[last]);
  return done;
}

}  // namespace detail

/// Trains one adapter for `samples` beside those of `pool`, in the blend that the pool's users get:
/// the same weights, tau and blend policy, index and adapters of the pool as they are. Its index
/// vector is the mean direction of `places` (n, d), the samples in the pool's index space. Of the
/// options it takes weights, independent (alone, as if it were the only one), start (a copy of the
/// pool's adapter that the samples are nearest to, or random), steps, users, samples, mix,
/// training, seed, memory, checkpoint; the rest is the pool's. Errors: a pool of another base model
/// or matcher, and those of `build_pool`.
template <kernel_backend B, executor X>
[[nodiscard]] result<pool_addition> train_addition(
    const base_weights& weights, const std::string& base_hash, const adapter::pool<float>& pool,
    std::span<const tokenizer::encoded_sample> samples, matrix_view<const float> places,
    pool_options options, X& threads, stage_progress progress = nobody_looks) {
  const adapter::pool_info& info = pool.info();
  options.adapters = 1;
  options.tau = info.tau;
  options.by_factors = info.blend == "linear";
  CRAYON_CHECK(detail::check_options(options, samples.size()));
  CRAYON_CHECK(detail::check_extension(pool, base_hash, options, places.cols));
  auto identity = detail::identity_of(options, "addition", base_hash, weights.storage(), samples,
                                      {}, B::name(), threads.concurrency());
  identity["pool"] = hex(adapter::pool_hash(pool));
  CRAYON_TRY(checkpoint saved, checkpoint::open(options.checkpoint, std::move(identity)));
  detail::pool_run<B, X> run(weights, samples, options, saved, threads, progress);
  CRAYON_CHECK(run.check_memory(pool.shapes(), pool.size() + 1));

  const std::vector<std::size_t> one_group(samples.size());
  pool_addition made;
  made.index = match::centroids(places, one_group, 1);
  std::vector<float> rows(pool.index().data, pool.index().data + pool.index().size());
  rows.insert(rows.end(), made.index.begin(), made.index.end());
  const matrix_view<const float> index(rows.data(), pool.size() + 1, places.cols);
  const match::top_k match{info.tau, info.top_k};

  rng random(options.seed);
  std::vector<adapter::lora_adapter<float>> adapters;
  for (std::size_t k = 0; k < pool.size(); ++k) adapters.push_back(pool.extract(k));
  if (options.start == pool_start::random) {
    adapters.push_back(initial_adapter(pool.shapes(), random));
  } else {
    const auto nearest = match.weights(pool.index(), places);
    const auto best = std::max_element(nearest.begin(), nearest.end()) - nearest.begin();
    adapters.push_back(adapters[static_cast<std::size_t>(best)]);
  }
  auto& report = made.report;
  report.resumed = saved.step_of("addition");
  if (options.independent) {
    CRAYON_CHECK(run.one_adapter("addition", options.steps, detail::all_of(samples.size()),
                                 rng(random()), adapters.back()));
  } else {
    detail::addition_users users(samples, places, index, match, options);
    CRAYON_CHECK(
        run.stage("addition", options.steps, std::span(adapters).last(1), {}, rng(random()),
                  [&](const auto& training, rng& from, auto&& watch, auto& hooks) {
                    const auto next = [&](packed_batch& batch, std::vector<float>& rows_of) {
                      users.draw(batch, rows_of, run.drawn(), from);
                    };
                    return detail::train_last<B>(options.by_factors, weights, std::span(adapters),
                                                 training, next, threads, watch, hooks);
                  }));
  }
  made.adapter = std::move(adapters.back());
  report.losses = saved.losses("addition");
  report.steps = report.losses.size();
  report.loss = report.losses.back();
  report.sizes = {samples.size()};
  report.usage = usage_of(match, index, places);
  CRAYON_CHECK(run.end(report));
  return made;
}

/// The pool with one more adapter, `name`, trained as by `train_addition`; the others' factors and
/// index vectors are those of `pool` to the bit. Errors: also a pool of another embedding policy, a
/// name that it has already. (`adapter::add_adapter` does that to a pool's file.)
template <kernel_backend B, embedding_policy Embedding = match::error_pooling, element E,
          executor X>
[[nodiscard]] result<built_pool> extend_pool(const model::llama_weights<E>& weights,
                                             const adapter::pool<float>& pool,
                                             const std::string& name,
                                             std::span<const tokenizer::encoded_sample> samples,
                                             const pool_options& options, X& threads,
                                             stage_progress progress = nobody_looks) {
  adapter::pool_info info = pool.info();
  if (std::count(info.names.begin(), info.names.end(), name) != 0) {
    return error{errc::bad_value, "the pool has an adapter " + name + " already"};
  }
  if (info.embedding != Embedding::name()) {
    return error{errc::mismatch, "the pool's index is of " + info.embedding + ", not of " +
                                     std::string(Embedding::name())};
  }
  const std::size_t length = Embedding::size(weights.config().dim);
  const match::index_space space{info.centre, info.projection};
  if (info.layer > weights.config().layers ||
      (!info.centre.empty() && info.centre.size() != length)) {
    return error{errc::bad_shape, "the pool's index is not of this model's embeddings"};
  }
  const auto embedded = embed_all<B, Embedding>(weights, samples, threads, info.layer);
  const std::vector<float> placed = space.place({embedded.data(), samples.size(), length});
  const std::size_t width = space.size(length);
  CRAYON_TRY(auto made,
             train_addition<B>(weights, weights.hash(), pool, samples,
                               {placed.data(), samples.size(), width}, options, threads, progress));
  std::vector<float> index(pool.index().data, pool.index().data + pool.index().size());
  index.insert(index.end(), made.index.begin(), made.index.end());
  info.names.push_back(name);
  CRAYON_TRY(auto longer, adapter::pool<float>::zeros(pool.shapes(), pool.size() + 1,
                                                      {index.data(), pool.size() + 1, width},
                                                      std::move(info), pool.tile()));
  for (std::size_t k = 0; k < pool.size(); ++k) CRAYON_CHECK(longer.insert(k, pool.extract(k)));
  CRAYON_CHECK(longer.insert(pool.size(), made.adapter));
  return built_pool{std::move(longer), std::move(made.report)};
}

}  // namespace crayon::train
