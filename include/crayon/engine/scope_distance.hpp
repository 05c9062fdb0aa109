// SPDX-License-Identifier: MIT
// How far a query is from the task that a device was customized for.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <crayon/router/index_distance.hpp>
#include <crayon/router/scope.hpp>

namespace crayon::engine {

/// Remembers what a task looks like from the prompts of its samples (S, d), and measures queries
/// (d). Completions are left out on both sides: a query has none.
template <class D>
concept scope_distance = requires(D& d, const D& fitted, matrix_view<const float> index,
                                  matrix_view<const float> prompts, std::span<const float> query,
                                  std::vector<float> (*weights)(matrix_view<const float>)) {
  { D::needs_embedding } -> std::convertible_to<bool>;  // false: query is empty
  d.fit(prompts, weights);                              // weights: embeddings -> N weights
  { fitted.measure(query, weights) } -> std::same_as<float>;
};

/// Cross-entropy between the query's adapter weights and the task's.
class weight_distance {
 public:
  static constexpr bool needs_embedding = true;

  template <class Weights>
  void fit(matrix_view<const float> prompts, Weights&& weights) {
    task_ = weights(prompts);
  }
  template <class Weights>
  [[nodiscard]] float measure(std::span<const float> query, Weights&& weights) const {
    const auto own = weights(matrix_view<const float>(query.data(), 1, query.size()));
    return router::weight_cross_entropy(own, task_);
  }

 private:
  std::vector<float> task_;
};

/// 1 - cosine to the K-th nearest sample; fewer samples than K: not measured.
template <std::size_t K>
class kth_sample_distance {
  static_assert(K > 0, "the nearest sample is the first");

 public:
  static constexpr bool needs_embedding = true;

  template <class Weights>
  void fit(matrix_view<const float> prompts, Weights&&) {
    dim_ = prompts.cols;
    samples_.clear();
    for (std::size_t s = 0; s < prompts.rows; ++s) {
      samples_.insert(samples_.end(), prompts.row(s), prompts.row(s) + dim_);
    }
  }
  template <class Weights>
  [[nodiscard]] float measure(std::span<const float> query, Weights&&) const {
    const std::size_t count = dim_ == 0 ? 0 : samples_.size() / dim_;
    std::vector<float> scratch(count);
    return router::cosine_distance({samples_.data(), count, dim_}, query, K, scratch);
  }

 private:
  std::vector<float> samples_;
  std::size_t dim_ = 0;
};

/// 1 - cosine to the nearest sample.
using sample_distance = kth_sample_distance<1>;

/// Not measured: saves the base model's pass over each prompt.
struct no_distance {
  static constexpr bool needs_embedding = false;

  template <class Weights>
  void fit(matrix_view<const float>, Weights&&) const noexcept {}
  template <class Weights>
  [[nodiscard]] float measure(std::span<const float>, Weights&&) const noexcept {
    return router::not_measured;
  }
};
static_assert(scope_distance<weight_distance>);
static_assert(scope_distance<sample_distance>);
static_assert(scope_distance<kth_sample_distance<3>>);
static_assert(scope_distance<no_distance>);

}  // namespace crayon::engine
