// SPDX-License-Identifier: MIT
// Texts -> a pool of adapters, or one adapter, in one call. Needs Eigen and nlohmann_json.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/pool.hpp>
#include <crayon/io/text_sample.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/train/pool_options.hpp>
#include <crayon/train/pool_run.hpp>
#include <crayon/train/pool_start.hpp>
#include <crayon/train/simulated_users.hpp>

namespace crayon::train {

namespace detail {

/// 0, 1, ... count - 1
[[nodiscard]] inline std::vector<std::size_t> all_of(std::size_t count) {
  std::vector<std::size_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), std::size_t{0});
  return numbers;
}

/// The stages of `build_pool` after its samples have been placed.
template <kernel_backend B, executor X>
[[nodiscard]] result<pool_report> train_placed(
    pool_run<B, X>& run, const checkpoint& saved, const pool_options& options,
    placed_samples& placed, std::span<const std::size_t> task, rng& random,
    std::vector<adapter::lora_adapter<float>>& adapters) {
  const matrix_view<float> index(placed.index.data(), options.adapters, placed.width);
  const std::vector<std::size_t> everybody = all_of(placed.assignment.size());
  const rng drawn(random());
  if (options.start == pool_start::copies) {
    auto shared = initial_adapter(run.shapes(), random);
    const std::size_t steps = options.shared_steps == 0
                                  ? std::max<std::size_t>(options.steps / 4, 1)
                                  : options.shared_steps;
    CRAYON_CHECK(run.one_adapter("first adapter", steps, everybody, drawn, shared));
    adapters.assign(options.adapters, shared);
  } else {
    for (std::size_t i = 0; i < options.adapters; ++i) {
      adapters.push_back(initial_adapter(run.shapes(), random));
    }
  }
  const auto group = number_groups(options.groups);
  const simulated_users users(task.empty() ? std::span<const std::size_t>(placed.assignment) : task,
                              group, options.mix);
  pool_report report;
  report.shared_losses = saved.losses("first adapter");
  report.sizes = placed.sizes;
  report.tasks = users.tasks();
  report.groups = users.groups();
  if (options.independent) {
    for (std::size_t k = 0; k < options.adapters; ++k) {
      std::vector<std::size_t> members;
      for (const std::size_t i : everybody) {
        if (placed.assignment[i] == k) members.push_back(i);
      }
      const std::string stage = "adapter " + std::to_string(k);
      CRAYON_CHECK(run.one_adapter(stage, options.steps, members, rng(random()), adapters[k]));
      const auto losses = saved.losses(stage);
      report.losses.insert(report.losses.end(), losses.begin(), losses.end());
    }
  } else {
    report.resumed = saved.step_of("pool");
    const auto draw = [&](std::size_t count, rng& from) { return users.draw(count, from); };
    CRAYON_CHECK(run.joint("pool", adapters, index, placed.points(),
                           options.draw == nullptr ? user_draw(draw) : *options.draw,
                           rng(random())));
    report.losses = saved.losses("pool");
  }
  report.steps = report.losses.size();
  report.loss = report.losses.empty() ? 0 : report.losses.back();
  report.usage = usage_of(match::cosine_softmax{options.tau}, matrix_view<const float>(index),
                          placed.points());
  CRAYON_CHECK(run.end(report));
  return report;
}

}  // namespace detail

/// Embeds the samples by the model, places the index vectors (`options.init`), and trains one
/// adapter for each of them, jointly over simulated users or one by one. The model is frozen and
/// may be llama_weights of f32, bf16 or f16. `tasks` (n) are the samples' tasks, "" where one is
/// not known. The same options, data and number of threads give the same bits, whether or not the
/// run was interrupted. Errors: options that do not fit, the data or the checkpoint (which names
/// both values), a loss that is not finite (with step and samples), and `errc::cancelled` where
/// `progress` stopped.
template <kernel_backend B, embedding_policy Embedding = match::error_pooling, element E,
          executor X>
[[nodiscard]] result<built_pool> build_pool(const model::llama_weights<E>& weights,
                                            std::span<const tokenizer::encoded_sample> samples,
                                            std::span<const std::string> tasks,
                                            const pool_options& options, X& threads,
                                            stage_progress progress = nobody_looks) {
  CRAYON_CHECK(detail::check_options(options, samples.size()));
  if (options.layer > weights.config().layers) {
    return error{errc::bad_value, "layer " + std::to_string(options.layer) + ", the model has " +
                                      std::to_string(weights.config().layers)};
  }
  const std::string hash = weights.hash();
  auto identity = detail::identity_of(options, "pool", hash, storage_of<E>, samples, tasks,
                                      B::name(), threads.concurrency());
  identity["embedding"] = Embedding::name();
  CRAYON_TRY(checkpoint saved, checkpoint::open(options.checkpoint, std::move(identity)));
  detail::pool_run<B, X> run(weights, samples, options, saved, threads, progress);
  CRAYON_CHECK(run.check_rank(run.shapes()));
  CRAYON_CHECK(run.check_memory(run.shapes(), options.adapters));

  rng random(options.seed);
  const std::vector<float> embedded =
      embed_all<B, Embedding>(weights, samples, threads, options.layer, options.embedding);
  const std::size_t length = Embedding::size(weights.config().dim);
  CRAYON_TRY(placed_samples placed,
             place_samples<B>({embedded.data(), samples.size(), length}, Embedding::size(1), tasks,
                              options.adapters, options.init, random));
  std::vector<std::string> names;
  const auto task = number_tasks(tasks, names);
  std::vector<adapter::lora_adapter<float>> adapters;
  CRAYON_TRY(auto report,
             detail::train_placed(run, saved, options, placed, task, random, adapters));

  adapter::pool_info info;
  info.base_model = options.base_model;
  info.base_hash = hash;
  info.embedding = Embedding::name();
  info.layer = options.layer;
  info.matcher = match::cosine_softmax::name();
  info.tau = options.tau;
  info.blend = options.by_factors ? "linear" : "concat";
  info.names = placed.names;
  info.centre = std::move(placed.space.centre);
  info.projection = std::move(placed.space.projection);
  info.notes["weights in training"] =
      options.independent ? "none: each adapter alone" : options.weights.chosen();
  const matrix_view<const float> index(placed.index.data(), options.adapters, placed.width);
  CRAYON_TRY(auto pool, adapter::pool<float>::build(adapters, index, std::move(info)));
  return built_pool{std::move(pool), std::move(report)};
}

/// The same from texts, of which those of a group (of a convention, say) make a user's samples.
template <kernel_backend B, embedding_policy Embedding = match::error_pooling, element E,
          text_tokenizer T, executor X>
[[nodiscard]] result<built_pool> build_pool(const model::llama_weights<E>& weights, const T& tokens,
                                            std::span<const io::text_sample> texts,
                                            const pool_options& options, X& threads,
                                            stage_progress progress = nobody_looks) {
  CRAYON_TRY(const auto encoded, encode_texts(tokens, texts, weights.config()));
  std::vector<std::string> tasks, groups;
  for (const auto& t : texts) {
    tasks.push_back(t.task);
    groups.push_back(t.group);
  }
  pool_options grouped = options;
  if (options.groups.empty()) grouped.groups = groups;
  return build_pool<B, Embedding>(weights, std::span(encoded), std::span(std::as_const(tasks)),
                                  grouped, threads, progress);
}

struct built_adapter {
  adapter::lora_adapter<float> adapter;
  pool_report report;
};

/// One adapter of `options.rank` on all samples: the control that a pool is compared with. Of the
/// options it takes rank, alpha, steps, users * samples as the batch, training, seed, memory,
/// checkpoint.
template <kernel_backend B, element E, executor X>
[[nodiscard]] result<built_adapter> build_single(const model::llama_weights<E>& weights,
                                                 std::span<const tokenizer::encoded_sample> samples,
                                                 pool_options options, X& threads,
                                                 stage_progress progress = nobody_looks) {
  options.adapters = 1;
  CRAYON_CHECK(detail::check_options(options, samples.size()));
  CRAYON_TRY(checkpoint saved,
             checkpoint::open(options.checkpoint,
                              detail::identity_of(options, "single", weights.hash(), storage_of<E>,
                                                  samples, {}, B::name(), threads.concurrency())));
  detail::pool_run<B, X> run(weights, samples, options, saved, threads, progress);
  CRAYON_CHECK(run.check_rank(run.shapes()));
  CRAYON_CHECK(run.check_memory(run.shapes(), 1));
  rng random(options.seed);
  built_adapter made{initial_adapter(run.shapes(), random), {}};
  auto& report = made.report;
  report.resumed = saved.step_of("adapter");
  CRAYON_CHECK(run.one_adapter("adapter", options.steps, detail::all_of(samples.size()),
                               rng(random()), made.adapter));
  report.losses = saved.losses("adapter");
  report.steps = report.losses.size();
  report.loss = report.losses.back();
  report.sizes = {samples.size()};
  CRAYON_CHECK(run.end(report));
  return made;
}

}  // namespace crayon::train
