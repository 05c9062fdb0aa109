// SPDX-License-Identifier: MIT
// Which of several known domains a question is of.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <crayon/core/config.hpp>
#include <crayon/match/index_space.hpp>

namespace crayon::match {

/// Tasks as Gaussians of one width in a space where the covariance within tasks is the identity
/// (match/discriminant.hpp), and the domain of each: P(domain | x) is the sum over its tasks k of
///   exp(-s |y - mu_k|^2 / 2) / sum_j exp(-s |y - mu_j|^2 / 2),  y = P (x - centre),
/// with s the sharpness: 1 were right if the covariance were, but a space is fitted to some texts
/// and is too sure of others. On CLINC150 0.125 told out-of-scope questions apart best of 1 to 0.06
/// (validation texts, AUROC 0.90 at 1, 0.94 at 0.125). Made by `fit_domains`.
struct domain_space {
  index_space space;                ///< P (d, D) and centre (D), of whole embeddings
  std::vector<float> means;         ///< (tasks, d)
  std::vector<std::size_t> domain;  ///< (tasks), numbered from 0
  std::size_t domains = 0;
  float sharpness = 0.125F;

  friend bool operator==(const domain_space&, const domain_space&) = default;

  /// D
  [[nodiscard]] std::size_t embedding() const noexcept { return space.centre.size(); }
  /// d
  [[nodiscard]] std::size_t dim() const noexcept { return means.size() / domain.size(); }

  /// y (d) of an embedding (D): not normalised.
  void whiten(std::span<const float> x, std::span<float> y) const noexcept {
    CRAYON_ASSERT(x.size() == embedding() && y.size() == dim());
    for (std::size_t i = 0; i < y.size(); ++i) {
      const float* row = space.projection.data() + i * x.size();
      double sum = 0;
      for (std::size_t j = 0; j < x.size(); ++j) {
        sum += double{row[j]} * (double{x[j]} - double{space.centre[j]});
      }
      y[i] = static_cast<float>(sum);
    }
  }

  /// -s |y - mu_k|^2 / 2 of each task.
  [[nodiscard]] std::vector<double> task_scores(std::span<const float> y) const {
    CRAYON_ASSERT(y.size() == dim());
    std::vector<double> scores(domain.size());
    for (std::size_t k = 0; k < scores.size(); ++k) {
      double squares = 0;
      for (std::size_t j = 0; j < y.size(); ++j) {
        const double z = double{y[j]} - double{means[k * y.size() + j]};
        squares += z * z;
      }
      scores[k] = -squares / 2 * double{sharpness};
    }
    return scores;
  }

  /// P(domain | scores of tasks): (domains), sum 1.
  [[nodiscard]] std::vector<float> weights_of(std::span<const double> task_scores) const {
    CRAYON_ASSERT(task_scores.size() == domain.size() && !domain.empty());
    const double top = *std::max_element(task_scores.begin(), task_scores.end());
    std::vector<double> sum(domains);
    double all = 0;
    for (std::size_t k = 0; k < task_scores.size(); ++k) {
      const double e = std::exp(task_scores[k] - top);
      sum[domain[k]] += e;
      all += e;
    }
    std::vector<float> weights(domains);
    for (std::size_t d = 0; d < domains; ++d) weights[d] = static_cast<float>(sum[d] / all);
    return weights;
  }

  /// P(domain | x): (domains), sum 1. NaN where x is not finite.
  [[nodiscard]] std::vector<float> weights(std::span<const float> x) const {
    std::vector<float> y(dim());
    whiten(x, y);
    return weights_of(task_scores(y));
  }
};

}  // namespace crayon::match
