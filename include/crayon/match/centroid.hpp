// SPDX-License-Identifier: MIT
// Every sample votes for the adapter of its nearest centroid.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/config.hpp>
#include <crayon/match/similarity.hpp>

namespace crayon::match {

/// w_i = share of the samples whose nearest centroid, of the several that an adapter may have (see
/// similarity.hpp), is one of adapter i: the nearest-centroid classifier (Rocchio 1971), without a
/// temperature. The first adapter among equally near ones.
struct centroid {
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "centroid"; }

  /// index (N, c d) and samples (S, d), S > 0 -> N weights, sum 1.
  [[nodiscard]] std::vector<float> weights(matrix_view<const float> index,
                                           matrix_view<const float> samples) const {
    CRAYON_ASSERT(samples.rows > 0 && centroids_of(index, samples.cols) > 0);
    std::vector<float> votes(index.rows);
    for (std::size_t s = 0; s < samples.rows; ++s) {
      std::size_t nearest = 0;
      double best = -2;
      for (std::size_t i = 0; i < index.rows; ++i) {
        const double cosine =
            nearest_cosine({index.row(i), index.cols}, {samples.row(s), samples.cols});
        if (cosine > best) {
          best = cosine;
          nearest = i;
        }
      }
      votes[nearest] += 1;
    }
    for (float& v : votes) v /= static_cast<float>(samples.rows);
    return votes;
  }
};
static_assert(matcher<centroid>);

}  // namespace crayon::match
