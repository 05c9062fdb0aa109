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

/// Clusters unit vectors `points` (n, d) by cosine (Dhillon, Modha 2001), seeded by k-means++
/// (Arthur, Vassilvitskii 2007) with 1 - cos as the squared distance. An empty cluster gets the
/// point that is farthest from its centre. Errors: k = 0, fewer points than k, a value that is not
/// finite.
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
  made.assignment.assign(n, 0);
  made.sizes.assign(k, 0);
  const matrix_view<float> centres(made.centres.data(), k, d);
  std::vector<float> distance(n, 2.0F);  // to the nearest centre, at least 0

  const auto distance_to = [&](std::size_t point, std::size_t centre) {
    const float cosine =
        B::dot(static_cast<const float*>(centres.row(centre)), points.row(point), d);
    return std::max(0.0F, 1 - cosine);
  };
  for (std::size_t c = 0; c < k; ++c) {
    double sum = 0;
    for (const float x : distance) sum += double{x};
    std::size_t chosen = random.below(n);
    if (c > 0 && sum > 0) {
      double left = double{random.uniform()} * sum;
      chosen = 0;
      for (std::size_t i = 0; i < n; ++i) {
        if (distance[i] > 0) chosen = i;  // the last one if rounding leaves something over
        left -= double{distance[i]};
        if (left < 0) break;
      }
    }
    std::copy_n(points.row(chosen), d, centres.row(c));
    for (std::size_t i = 0; i < n; ++i) distance[i] = std::min(distance[i], distance_to(i, c));
  }

  for (bool moved = true; moved && made.iterations < max_iterations; ++made.iterations) {
    moved = made.iterations == 0;
    std::fill(made.sizes.begin(), made.sizes.end(), std::size_t{0});
    made.distortion = 0;
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t best = 0;
      float nearest = distance_to(i, 0);
      for (std::size_t c = 1; c < k; ++c) {
        const float to = distance_to(i, c);
        if (to < nearest) {
          nearest = to;
          best = c;
        }
      }
      moved = moved || made.assignment[i] != best;
      made.assignment[i] = best;
      distance[i] = nearest;
      made.distortion += double{nearest} / static_cast<double>(n);
      ++made.sizes[best];
    }
    for (std::size_t c = 0; c < k; ++c) {
      if (made.sizes[c] > 0) continue;
      std::size_t farthest = 0;
      float most = -1;
      for (std::size_t i = 0; i < n; ++i) {
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
