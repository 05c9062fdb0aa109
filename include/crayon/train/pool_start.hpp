// SPDX-License-Identifier: MIT
// Where a pool's index vectors begin: clusters of the samples' embeddings, or their tasks. Needs
// Eigen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/match/discriminant.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/tokenizer/sample.hpp>
#include <crayon/train/k_means.hpp>
#include <crayon/train/pool_options.hpp>

namespace crayon::train {

/// Samples in index space, and the index vectors there.
struct placed_samples {
  match::index_space space;
  std::size_t width = 0;
  std::vector<float> places;            ///< (samples, width)
  std::vector<float> index;             ///< (adapters, width)
  std::vector<std::size_t> assignment;  ///< adapter of each sample
  std::vector<std::size_t> sizes;       ///< samples of each adapter
  std::vector<std::string> names;       ///< of the tasks that are adapters; else empty

  [[nodiscard]] matrix_view<const float> points() const noexcept {
    return {places.data(), places.size() / width, width};
  }
};

/// Embeddings of samples by the model without an adapter, (samples, Embedding::size(dim)), of the
/// states after `layer` blocks (0: all). The samples fit the model. `progress` may be null.
template <kernel_backend B, class Embedding, element E, executor X>
[[nodiscard]] std::vector<float> embed_all(const model::llama_weights<E>& weights,
                                           std::span<const tokenizer::encoded_sample> samples,
                                           X& tasks, std::size_t layer = 0,
                                           const embedding_progress* progress = nullptr) {
  const std::size_t width = Embedding::size(weights.config().dim);
  std::vector<float> rows(samples.size() * width);
  std::size_t longest = 1;
  for (const auto& one : samples) longest = std::max(longest, one.ids.size());
  const std::size_t parts = tasks.concurrency();
  tasks.parallel_for(parts, [&](std::size_t part) {
    model::llama_session<B, E> session(weights, longest);
    session.use_layers(layer);
    const auto [first, last] = part_of(samples.size(), part, parts);
    for (std::size_t i = first; i < last; ++i) {
      match::embed<Embedding>(session, samples[i].ids, samples[i].prompt_tokens,
                              std::span(rows).subspan(i * width, width));
      if (part != 0 || progress == nullptr) continue;
      (*progress)(i + 1 == last ? samples.size() : (i + 1) * samples.size() / last, samples.size());
    }
  });
  return rows;
}

/// Clusters of embeddings that nobody has labelled; each of the `parts` of an embedding is centred
/// and scaled to the same mean length.
template <kernel_backend B>
[[nodiscard]] result<clustering> cluster_embeddings(matrix_view<const float> rows,
                                                    std::size_t parts, std::size_t count,
                                                    rng& random) {
  const std::vector<float> centre = match::mean_of(rows);
  const std::size_t part = rows.cols / parts;
  std::vector<double> squares(parts);
  for (std::size_t i = 0; i < rows.rows; ++i) {
    for (std::size_t j = 0; j < rows.cols; ++j) {
      const double x = double{rows(i, j)} - double{centre[j]};
      squares[j / part] += x * x;
    }
  }
  std::vector<float> scaled(rows.rows * rows.cols);
  for (std::size_t i = 0; i < rows.rows; ++i) {
    for (std::size_t j = 0; j < rows.cols; ++j) {
      const double length = std::sqrt(squares[j / part]);
      const double x = double{rows(i, j)} - double{centre[j]};
      scaled[i * rows.cols + j] = length > 0 ? static_cast<float>(x / length) : 0.0F;
    }
    match::normalise(std::span(scaled).subspan(i * rows.cols, rows.cols));
  }
  return k_means<B>({scaled.data(), rows.rows, rows.cols}, count, random);
}

/// The task of each sample as a number, in the order of first appearance; empty if one has none.
[[nodiscard]] inline std::vector<std::size_t> number_tasks(std::span<const std::string> tasks,
                                                           std::vector<std::string>& names) {
  std::map<std::string, std::size_t> numbers;
  std::vector<std::size_t> numbered;
  names.clear();
  for (const auto& task : tasks) {
    if (task.empty()) {
      names.clear();
      return {};
    }
    const auto [at, is_new] = numbers.emplace(task, numbers.size());
    if (is_new) names.push_back(task);
    numbered.push_back(at->second);
  }
  return numbered;
}

/// Groups by number; those without a name are one, too.
[[nodiscard]] inline std::vector<std::size_t> number_groups(std::span<const std::string> groups) {
  std::map<std::string, std::size_t> numbers;
  std::vector<std::size_t> numbered;
  for (const auto& g : groups) numbered.push_back(numbers.emplace(g, numbers.size()).first->second);
  return numbered;
}

/// Known tasks, or else clusters of `embeddings` (n, D), give the discriminant space; one adapter
/// per task where `init` says so, else one per cluster in that space. `tasks` (n) may hold empty
/// names. Errors: those of `k_means` and of `match::fit_discriminant`; tasks that are asked for and
/// not known, or not as many as adapters.
template <kernel_backend B>
[[nodiscard]] result<placed_samples> place_samples(matrix_view<const float> embeddings,
                                                   std::size_t parts,
                                                   std::span<const std::string> tasks,
                                                   std::size_t adapters, pool_init init,
                                                   rng& random) {
  placed_samples placed;
  std::vector<std::size_t> group = number_tasks(tasks, placed.names);
  const std::size_t known = placed.names.size();
  if (init == pool_init::tasks && known != adapters) {
    return error{errc::bad_value, known == 0
                                      ? "one adapter per task: there are samples without a task"
                                      : "one adapter per task: " + std::to_string(known) +
                                            " tasks for " + std::to_string(adapters) + " adapters"};
  }
  if (init == pool_init::k_means || group.empty()) {
    CRAYON_TRY(auto made, cluster_embeddings<B>(embeddings, parts, adapters, random));
    group = std::move(made.assignment);
  }
  const std::size_t groups = *std::max_element(group.begin(), group.end()) + 1;
  if (groups > 1) {
    const std::size_t directions = std::min(groups - 1, embeddings.cols);
    CRAYON_TRY(placed.space, match::fit_discriminant(embeddings, group, directions, parts));
  } else {
    placed.space = match::space_around_mean(embeddings);
  }
  placed.width = placed.space.size(embeddings.cols);
  placed.places = placed.space.place(embeddings);
  if (init != pool_init::k_means && known == adapters && adapters > 1) {
    placed.index = match::centroids(placed.points(), group, adapters);
    placed.assignment = std::move(group);
    placed.sizes.resize(adapters);
    for (const std::size_t t : placed.assignment) ++placed.sizes[t];
    return placed;
  }
  placed.names.clear();
  CRAYON_TRY(auto made, k_means<B>(placed.points(), adapters, random));
  placed.index.assign(made.centres.begin(), made.centres.end());
  placed.assignment = std::move(made.assignment);
  placed.sizes = std::move(made.sizes);
  return placed;
}

}  // namespace crayon::train
