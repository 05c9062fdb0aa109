// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/discriminant.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/train/joint_pool.hpp>
#include <crayon/train/k_means.hpp>
#include <crayon/train/pretrain.hpp>

#include "commands.hpp"
#include "encoded.hpp"
#include "users.hpp"

namespace crayon::cli {
namespace {

/// Samples in index space, and the index vectors there.
struct placed_samples {
  match::index_space space;
  std::size_t width = 0;
  std::vector<float> places;            ///< (samples, width)
  std::vector<float> index;             ///< (adapters, width)
  std::vector<std::size_t> assignment;  ///< adapter of each sample
  std::vector<std::size_t> sizes;       ///< samples of each adapter
};

/// The task of each sample as a number; empty if a sample has none.
std::vector<std::size_t> known_tasks(const std::vector<sample>& samples) {
  std::map<std::string, std::size_t> numbers;
  std::vector<std::size_t> tasks;
  for (const auto& s : samples) {
    if (s.task.empty()) return {};
    tasks.push_back(numbers.emplace(s.task, numbers.size()).first->second);
  }
  return tasks;
}

/// Clusters of embeddings that nobody has labelled, each part scaled to the same mean length.
result<std::vector<std::size_t>> cluster(matrix_view<const float> rows, std::size_t parts,
                                         std::size_t count, rng& random) {
  const std::vector<float> centre = match::mean_of(rows);
  const std::size_t part = rows.cols / parts;
  std::vector<double> squares(parts);
  for (std::size_t i = 0; i < rows.rows; ++i) {
    for (std::size_t j = 0; j < rows.cols; ++j) {
      const double x = double{rows.row(i)[j]} - double{centre[j]};
      squares[j / part] += x * x;
    }
  }
  std::vector<float> scaled(rows.size());
  for (std::size_t i = 0; i < rows.rows; ++i) {
    for (std::size_t j = 0; j < rows.cols; ++j) {
      const double length = std::sqrt(squares[j / part]);
      scaled[i * rows.cols + j] =
          length > 0 ? static_cast<float>((double{rows.row(i)[j]} - double{centre[j]}) / length)
                     : 0.0F;
    }
    match::normalise(std::span(scaled).subspan(i * rows.cols, rows.cols));
  }
  CRAYON_TRY(auto made,
             train::k_means<backend>({scaled.data(), rows.rows, rows.cols}, count, random));
  return std::move(made.assignment);
}

/// Known tasks, or else clusters, give the discriminant space; one adapter per task where there are
/// as many of them as tasks, else one per cluster in that space.
result<placed_samples> place_samples(matrix_view<const float> rows, std::size_t parts,
                                     const std::vector<sample>& samples, std::size_t adapters,
                                     rng& random) {
  std::vector<std::size_t> task = known_tasks(samples);
  if (task.empty()) {
    CRAYON_TRY(task, cluster(rows, parts, adapters, random));
  }
  const std::size_t tasks = *std::max_element(task.begin(), task.end()) + 1;
  placed_samples placed;
  if (tasks > 1) {
    const std::size_t directions = std::min(tasks - 1, rows.cols);
    CRAYON_TRY(placed.space, match::fit_discriminant(rows, task, directions, parts));
  } else {
    placed.space.centre = match::mean_of(rows);
  }
  placed.width = placed.space.size(rows.cols);
  placed.places.resize(rows.rows * placed.width);
  for (std::size_t i = 0; i < rows.rows; ++i) {
    placed.space.place({rows.row(i), rows.cols},
                       std::span(placed.places).subspan(i * placed.width, placed.width));
  }
  const matrix_view<const float> places(placed.places.data(), rows.rows, placed.width);
  if (tasks == adapters && adapters > 1) {
    placed.index = match::centroids(places, task, tasks);
    placed.assignment = std::move(task);
    placed.sizes.resize(adapters);
    for (const std::size_t t : placed.assignment) ++placed.sizes[t];
  } else {
    CRAYON_TRY(auto made, train::k_means<backend>(places, adapters, random));
    placed.index.assign(made.centres.begin(), made.centres.end());
    placed.assignment = std::move(made.assignment);
    placed.sizes = std::move(made.sizes);
  }
  return placed;
}

}  // namespace

result<void> run(const pool_options& o, json& report) {
  CRAYON_TRY(const match::cosine_softmax match, match::cosine_softmax::with_tau(o.tau));
  CRAYON_TRY(const weights model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  CRAYON_TRY(const auto samples, read_samples(o.data));
  if (samples.size() < o.adapters) {
    return error{errc::bad_value, o.data + ": " + std::to_string(samples.size()) + " samples for " +
                                      std::to_string(o.adapters) + " adapters"};
  }
  CRAYON_TRY(const auto encoded, encode_samples(samples, tokens, model.config(), o.data));

  const stopwatch watch;
  thread_pool threads;
  using pooling = config::embedding;
  const std::vector<float> embedded = embed_samples<pooling>(model, encoded, threads);
  const std::size_t length = pooling::size(model.config().dim);
  rng random(o.seed);
  CRAYON_TRY(const placed_samples placed,
             place_samples({embedded.data(), encoded.size(), length}, pooling::size(1), samples,
                           o.adapters, random));
  const std::size_t width = placed.width;
  const matrix_view<const float> points(placed.places.data(), encoded.size(), width);
  const matrix_view<const float> index(placed.index.data(), o.adapters, width);
  const user_source users(samples, placed.assignment);

  using model::projection;
  constexpr std::array sites{projection::q,    projection::k,  projection::v,   projection::o,
                             projection::gate, projection::up, projection::down};
  train::training_options<> training;
  training.schedule.peak = o.rate;
  training.schedule.warm_up = 30;
  const auto shapes = train::lora_shapes(
      model.config(), o.rank, o.alpha > 0 ? o.alpha : 2 * static_cast<float>(o.rank), sites);

  // All adapters start from one that has seen everything: that aligns their factors.
  auto shared = train::initial_adapter(shapes, random);
  training.steps = o.shared_steps == 0 ? o.steps / 4 : o.shared_steps;
  {
    progress_bar bar("first adapter");
    CRAYON_TRY(const auto done, train::train_adapter<backend>(
                                    model, shared, training,
                                    [&](std::size_t, train::packed_batch& batch) {
                                      for (std::size_t i = 0; i < o.users * o.samples; ++i) {
                                        const auto& s = encoded[random.below(encoded.size())];
                                        batch.add(s.ids, s.prompt_tokens);
                                      }
                                    },
                                    threads,
                                    [&](const train::training_progress& p) {
                                      bar.show(p.step + 1, training.steps,
                                               "loss " + std::to_string(p.loss));
                                    }));
    report["shared_loss"] = done.last_loss;
  }

  std::vector<adapter::lora_adapter<float>> adapters(o.adapters, shared);
  training.steps = o.steps;
  progress_bar bar("pool");
  CRAYON_TRY(const auto done,
             train::joint_pool<backend>(
                 model, std::span(adapters), index, match, train::leave_one_out{}, training,
                 [&](std::size_t, train::grouped_batch& batch) {
                   for (std::size_t user = 0; user < o.users; ++user) {
                     batch.begin_group();
                     for (const std::size_t i : users.draw(o.samples, random)) {
                       batch.add(encoded[i].ids, encoded[i].prompt_tokens, {points.row(i), width});
                     }
                   }
                 },
                 threads,
                 [&](const train::training_progress& p) {
                   bar.show(p.step + 1, training.steps, "loss " + std::to_string(p.loss));
                 }));

  adapter::pool_info info;
  info.base_model = o.model.model;
  info.base_hash = model.hash();
  info.embedding = pooling::name();
  info.matcher = match::cosine_softmax::name();
  info.tau = o.tau;
  info.blend = blend::concat::name();
  info.centre = placed.space.centre;
  info.projection = placed.space.projection;
  info.notes["weights in training"] = train::leave_one_out::name();
  CRAYON_TRY(const auto pool, adapter::pool<float>::build(adapters, index, std::move(info)));
  CRAYON_CHECK(adapter::save_pool(o.out, pool));

  std::printf("%s: %zu adapters of rank %zu, %zu samples of %zu tasks, loss %.4f, %.1f s\n",
              o.out.c_str(), pool.size(), o.rank, samples.size(), users.tasks(), done.last_loss,
              watch.seconds());
  report["out"] = o.out;
  report["adapters"] = pool.size();
  report["rank"] = o.rank;
  report["samples"] = samples.size();
  report["tasks"] = users.tasks();
  report["steps"] = done.steps;
  report["loss"] = done.last_loss;
  report["cluster_sizes"] = placed.sizes;
  report["bytes"] = pool.bytes();
  report["seconds"] = watch.seconds();
  report["backend"] = backend::name();
  return {};
}

}  // namespace crayon::cli
