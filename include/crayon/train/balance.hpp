// SPDX-License-Identifier: MIT
// How evenly the adapters of a pool are used, and a term of the loss against collapse.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <crayon/concepts.hpp>

namespace crayon::train {

/// The mean weight of each adapter over the rows of `weights` (samples, N).
[[nodiscard]] inline std::vector<double> mean_weights(matrix_view<const float> weights) {
  std::vector<double> mean(weights.cols);
  for (std::size_t s = 0; s < weights.rows; ++s) {
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += double{weights(s, i)};
  }
  for (auto& m : mean) m /= static_cast<double>(std::max<std::size_t>(weights.rows, 1));
  return mean;
}

/// Sum of mean_i ln(N mean_i), the divergence of the mean weights from even ones: 0 where all
/// adapters are used alike, ln N where one is used alone.
[[nodiscard]] inline double imbalance(const std::vector<double>& mean) {
  double sum = 0;
  for (const double m : mean) {
    if (m > 0) sum += m * std::log(m * static_cast<double>(mean.size()));
  }
  return sum;
}

/// `d_weights` (samples, N) += strength * d imbalance / d weights.
inline void imbalance_backward(matrix_view<const float> weights, float strength,
                               matrix_view<float> d_weights) {
  const std::vector<double> mean = mean_weights(weights);
  for (std::size_t i = 0; i < mean.size(); ++i) {
    const double slope = std::log(std::max(mean[i], 1e-12) * static_cast<double>(mean.size())) + 1;
    const auto d = static_cast<float>(double{strength} * slope / static_cast<double>(weights.rows));
    for (std::size_t s = 0; s < weights.rows; ++s) d_weights(s, i) += d;
  }
}

/// What a pool's adapters are used for.
struct usage_report {
  std::vector<double> mean;          ///< weight of each adapter over all samples, sum 1
  std::vector<std::size_t> nearest;  ///< samples of which it has the largest weight
  double imbalance = 0;              ///< of `mean`
};

/// Of samples (S, d), each matched alone.
template <matcher M>
[[nodiscard]] usage_report usage_of(const M& match, matrix_view<const float> index,
                                    matrix_view<const float> samples) {
  std::vector<float> weights;
  usage_report report{{}, std::vector<std::size_t>(index.rows), 0};
  for (std::size_t s = 0; s < samples.rows; ++s) {
    const auto w = match.weights(index, samples.rows_from(s, 1));
    ++report.nearest[static_cast<std::size_t>(std::max_element(w.begin(), w.end()) - w.begin())];
    weights.insert(weights.end(), w.begin(), w.end());
  }
  report.mean = mean_weights({weights.data(), samples.rows, index.rows});
  report.imbalance = imbalance(report.mean);
  return report;
}

}  // namespace crayon::train
