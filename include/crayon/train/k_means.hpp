// SPDX-License-Identifier: MIT
// Spherical k-means: the index vectors of a pool from the embeddings of its texts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/rng.hpp>

namespace crayon::train {

struct clustering {
  aligned_vector<float> centres;        ///< (k, d), rows of unit length
  std::vector<std::size_t> assignment;  ///< cluster of each point
  std::vector<std::size_t> sizes;       ///< points of each cluster
  double distortion = 0;                ///< mean of 1 - cos(point, its centre)
  std::size_t iterations = 0;
};

namespace detail {

/// 1 - cos, at least 0.
template <kernel_backend B>
[[nodiscard]] float cosine_distance(const float* a, const float* b, std::size_t d) noexcept {
  return std::max(0.0F, 1 - B::dot(a, b, d));
}

/// k-means++ with 1 - cos as the squared distance. Each centre after the first is the best of
/// 2 + log2(k) draws (the greedy variant of the same paper): a single draw put two centres into one
/// of five well separated clusters in 1 of 5 runs.
template <kernel_backend B>
void seed_centres(matrix_view<const float> points, matrix_view<float> centres, rng& random) {
  const std::size_t n = points.rows, d = points.cols, k = centres.rows;
  std::size_t draws = 2;
  for (std::size_t power = 2; power <= k; power *= 2) ++draws;
  std::vector<float> nearest(n, 2.0F), candidate(n), best(n);
  double sum = 2 * static_cast<double>(n);
  for (std::size_t c = 0; c < k; ++c) {
    double best_sum = 0;
    for (std::size_t draw = 0; draw < (c == 0 ? 1 : draws); ++draw) {
      std::size_t chosen = random.below(n);
      if (sum > 0) {
        double left = double{random.uniform()} * sum;
        for (std::size_t i = 0; i < n && left >= 0; ++i) {
          if (nearest[i] > 0) chosen = i;  // stays when rounding leaves something over
          left -= double{nearest[i]};
        }
      }
      double candidate_sum = 0;
      for (std::size_t i = 0; i < n; ++i) {
        candidate[i] =
            std::min(nearest[i], cosine_distance<B>(points.row(chosen), points.row(i), d));
        candidate_sum += double{candidate[i]};
      }
      if (draw > 0 && candidate_sum >= best_sum) continue;
      best_sum = candidate_sum;
      best.swap(candidate);
      std::copy_n(points.row(chosen), d, centres.row(c));
    }
    sum = best_sum;
    nearest.swap(best);
  }
}

/// Every empty cluster takes the point that is farthest from its centre, out of a cluster of
/// several. Returns whether there was one.
inline bool fill_empty_clusters(clustering& made, std::vector<float>& distance) {
  bool moved = false;
  for (std::size_t c = 0; c < made.sizes.size(); ++c) {
    if (made.sizes[c] > 0) continue;
    std::size_t farthest = 0;
    float most = -1;
    for (std::size_t i = 0; i < distance.size(); ++i) {
      if (made.sizes[made.assignment[i]] > 1 && distance[i] > most) {
        most = distance[i];
        farthest = i;
      }
    }
    --made.sizes[made.assignment[farthest]];
    made.assignment[farthest] = c;
    made.sizes[c] = 1;
    distance[farthest] = 0;
    moved = true;
  }
  return moved;
}

}  // namespace detail

/// Clusters unit vectors `points` (n, d) by cosine (Dhillon, Modha 2001), seeded by k-means++
/// (Arthur, Vassilvitskii 2007). Stops when no point changes its cluster. Errors: k = 0, fewer
/// points than k, a value that is not finite.
template <kernel_backend B>
[[nodiscard]] result<clustering> k_means(matrix_view<const float> points, std::size_t k,
                                         rng& random, std::size_t max_iterations = 100) {
  const std::size_t n = points.rows, d = points.cols;
  if (k == 0 || n < k) {
    return error{errc::bad_value,
                 std::to_string(n) + " points for " + std::to_string(k) + " clusters"};
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(B::sum_squares(points.row(i), d))) {
      return error{errc::bad_value, "point " + std::to_string(i) + " is not finite"};
    }
  }
  clustering made;
  made.centres.resize(k * d);
  made.assignment.assign(n, k);
  made.sizes.assign(k, 0);
  const matrix_view<float> centres(made.centres.data(), k, d);
  std::vector<float> distance(n);
  detail::seed_centres<B>(points, centres, random);
  for (bool moved = true; moved && made.iterations < max_iterations; ++made.iterations) {
    moved = false;
    made.distortion = 0;
    std::fill(made.sizes.begin(), made.sizes.end(), std::size_t{0});
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t best = 0;
      distance[i] = detail::cosine_distance<B>(centres.row(0), points.row(i), d);
      for (std::size_t c = 1; c < k; ++c) {
        const float to = detail::cosine_distance<B>(centres.row(c), points.row(i), d);
        if (to >= distance[i]) continue;
        distance[i] = to;
        best = c;
      }
      moved |= made.assignment[i] != best;
      made.assignment[i] = best;
      made.distortion += double{distance[i]} / static_cast<double>(n);
      ++made.sizes[best];
    }
    moved |= detail::fill_empty_clusters(made, distance);
    std::fill(made.centres.begin(), made.centres.end(), 0.0F);
    for (std::size_t i = 0; i < n; ++i) {
      B::axpy(1.0F, points.row(i), centres.row(made.assignment[i]), d);
    }
    for (std::size_t c = 0; c < k; ++c) {
      const float length = std::sqrt(B::sum_squares(centres.row(c), d));
      for (std::size_t j = 0; j < d; ++j) centres(c, j) /= length > 0 ? length : 1;
    }
  }
  return made;
}

}  // namespace crayon::train
