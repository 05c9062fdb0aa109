// SPDX-License-Identifier: MIT
// Distances of a vector (a hidden state, an embedding) to a task in index space. Nothing here
// allocates; `fit_mahalanobis.hpp` makes what is measured with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/router/logit_signals.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::router {

/// 1 - the k-th largest cosine of `x` (d), of any length, with rows (n, d) of unit length: k = 1
/// for the nearest of centroids, more for samples (Sun et al., Out-of-distribution detection with
/// deep nearest neighbors, 2022). In [0, 2]. Scratch: n floats. NaN for fewer than k rows, or an x
/// of length 0 or not finite.
template <kernel_backend Backend = simd::scalar>
[[nodiscard]] float cosine_distance(matrix_view<const float> rows, std::span<const float> x,
                                    std::size_t k, std::span<float> scratch) noexcept {
  CRAYON_ASSERT(k > 0 && (rows.rows == 0 || rows.cols == x.size()) && scratch.size() >= rows.rows);
  if (k > rows.rows) return not_measured;
  const float squares = Backend::sum_squares(x.data(), x.size());
  if (!(squares > 0 && squares < std::numeric_limits<float>::infinity())) return not_measured;
  const auto products = scratch.first(rows.rows);
  Backend::gemv(rows, x.data(), products.data());
  const auto at = products.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(products.begin(), at, products.end(), [](float a, float b) { return a > b; });
  return 1 - *at / std::sqrt(squares);
}

/// min_c (x - mu_c)^T S^-1 (x - mu_c), the squared Mahalanobis distance to the nearest of C means
/// with one covariance for all (Lee et al. 2018), S = U diag(lambda) U^T + rest (I - U U^T): k
/// directions and one variance for all others (Tipping, Bishop 1999). Full where k is d, or where S
/// is a shrunk covariance of fewer samples than d. With y = x - centre,
///   |y - mu_c|^2 / rest - sum_i (1 / rest - 1 / lambda_i) (u_i (y - mu_c))^2,
/// (C + k) d multiplications. Exact to some 1e-6 of its first term.
struct mahalanobis {
  std::size_t means = 0;       ///< C
  std::vector<float> centre;   ///< (d)
  std::vector<float> rows;     ///< (C + k, d): means less the centre, then directions
  std::vector<float> squares;  ///< (C): |mu_c|^2
  std::vector<float> along;    ///< (C, k): u_i mu_c
  std::vector<float> excess;   ///< (k): 1 / rest - 1 / lambda_i
  float inverse_rest = 0;      ///< 0: there are no other directions
  float shrinkage = 0;         ///< that it was fitted with

  [[nodiscard]] std::size_t dim() const noexcept { return centre.size(); }
  [[nodiscard]] std::size_t scratch_size() const noexcept { return dim() + means + excess.size(); }

  /// x (d); scratch: `scratch_size()` floats. NaN where x is not finite.
  template <kernel_backend Backend = simd::scalar>
  [[nodiscard]] float measure(std::span<const float> x, std::span<float> scratch) const noexcept {
    CRAYON_ASSERT(x.size() == dim() && scratch.size() >= scratch_size() && means > 0);
    const std::size_t d = dim(), k = excess.size();
    float* y = scratch.data();
    float* p = y + d;
    for (std::size_t j = 0; j < d; ++j) y[j] = x[j] - centre[j];
    Backend::gemv(matrix_view<const float>(rows.data(), means + k, d), y, p);
    const float length = Backend::sum_squares(y, d);
    float nearest = std::numeric_limits<float>::infinity();
    for (std::size_t c = 0; c < means; ++c) {
      float distance = (length - 2 * p[c] + squares[c]) * inverse_rest;
      for (std::size_t i = 0; i < k; ++i) {
        const float z = p[means + i] - along[c * k + i];
        distance -= excess[i] * z * z;
      }
      if (!(distance >= nearest)) nearest = distance;  // a NaN too
    }
    return std::isfinite(nearest) ? std::max(nearest, 0.0F) : not_measured;
  }
};

/// How much further x is from the task than from everything: the distance to the task's means less
/// that to one mean of a background, each with its own covariance (Ren et al., A simple fix to
/// Mahalanobis distance, 2021). Directions in which all texts vary then count less.
struct relative_mahalanobis {
  mahalanobis task, background;

  [[nodiscard]] std::size_t scratch_size() const noexcept {
    return std::max(task.scratch_size(), background.scratch_size());
  }
  template <kernel_backend Backend = simd::scalar>
  [[nodiscard]] float measure(std::span<const float> x, std::span<float> scratch) const noexcept {
    const float own = task.template measure<Backend>(x, scratch);
    return own - background.template measure<Backend>(x, scratch);
  }
};

}  // namespace crayon::router
