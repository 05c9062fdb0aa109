// SPDX-License-Identifier: MIT
// Similarity to the index vectors -> one weight per adapter.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/match/similarity.hpp>

namespace crayon::match {

/// w_i = mean over samples x of softmax_i(cos(f(x), p_i) / tau), p_i the nearest of the centroids
/// of adapter i where it has several (similarity.hpp). A small tau picks the nearest adapter, a
/// large one approaches `uniform`.
struct cosine_softmax {
  float tau = 0.1F;

  [[nodiscard]] static constexpr std::string_view name() noexcept { return "cosine_softmax"; }

  /// A tau that is not a positive number, or whose inverse is none, is an error.
  [[nodiscard]] static result<cosine_softmax> with_tau(float tau) {
    if (tau > 0 && std::isnormal(tau)) return cosine_softmax{tau};
    char text[32];
    std::snprintf(text, sizeof text, "%g", double{tau});
    return error{errc::bad_value, "tau is " + std::string(text) + ", needs a positive number" +
                                      (tau > 0 && tau < 1 ? ", not so small" : "")};
  }

  /// One sample (d), index (N, c d): w has N elements.
  void weights(matrix_view<const float> index, std::span<const float> sample,
               float* w) const noexcept {
    CRAYON_ASSERT(tau > 0);
    float top = -INFINITY;
    for (std::size_t i = 0; i < index.rows; ++i) {
      w[i] = static_cast<float>(nearest_cosine({index.row(i), index.cols}, sample)) / tau;
      top = w[i] > top ? w[i] : top;
    }
    double sum = 0;
    for (std::size_t i = 0; i < index.rows; ++i) {
      w[i] = std::exp(w[i] - top);
      sum += double{w[i]};
    }
    for (std::size_t i = 0; i < index.rows; ++i) w[i] = static_cast<float>(double{w[i]} / sum);
  }

  /// index (N, c d) and samples (S, d), S > 0, rows of unit length -> N weights, sum 1.
  [[nodiscard]] std::vector<float> weights(matrix_view<const float> index,
                                           matrix_view<const float> samples) const {
    CRAYON_ASSERT(samples.rows > 0 && centroids_of(index, samples.cols) > 0);
    std::vector<double> sum(index.rows);
    std::vector<float> w(index.rows);
    for (std::size_t s = 0; s < samples.rows; ++s) {
      weights(index, {samples.row(s), samples.cols}, w.data());
      for (std::size_t i = 0; i < w.size(); ++i) sum[i] += double{w[i]};
    }
    for (std::size_t i = 0; i < w.size(); ++i) {
      w[i] = static_cast<float>(sum[i] / static_cast<double>(samples.rows));
    }
    return w;
  }

  /// The other way: `d_index` (N, d) += d loss / d index from `d_weights` (N), for one centroid per
  /// adapter. With s = softmax of sample x: dp_i += s_i (dw_i - sum_j s_j dw_j) f(x) / (tau S).
  void backward(matrix_view<const float> index, matrix_view<const float> samples,
                std::span<const float> d_weights, matrix_view<float> d_index) const {
    CRAYON_ASSERT(samples.rows > 0 && index.cols == samples.cols);
    std::vector<float> w(index.rows);
    for (std::size_t s = 0; s < samples.rows; ++s) {
      weights(index, {samples.row(s), samples.cols}, w.data());
      double mean = 0;
      for (std::size_t i = 0; i < w.size(); ++i) mean += double{w[i]} * double{d_weights[i]};
      const double scale = 1 / (double{tau} * static_cast<double>(samples.rows));
      for (std::size_t i = 0; i < w.size(); ++i) {
        const auto d = static_cast<float>(double{w[i]} * (double{d_weights[i]} - mean) * scale);
        for (std::size_t j = 0; j < index.cols; ++j) d_index(i, j) += d * samples(s, j);
      }
    }
  }
};
static_assert(matcher<cosine_softmax>);

}  // namespace crayon::match
