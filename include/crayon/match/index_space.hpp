// SPDX-License-Identifier: MIT
// The space in which samples are compared with index vectors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <crayon/core/config.hpp>
#include <crayon/core/view.hpp>
#include <crayon/match/embedding.hpp>

namespace crayon::match {

/// What an embedding policy gives (D) -> a unit vector (d): f = normalise(P (x - centre)). Hidden
/// states share a large common part that says nothing about the sample; without it, cosines spread
/// over the whole range. The projection, if there is one, whitens (match/discriminant.hpp).
struct index_space {
  std::vector<float> centre;      ///< (D); empty: nothing is subtracted
  std::vector<float> projection;  ///< (d, D), row-major; empty: the identity

  friend bool operator==(const index_space&, const index_space&) = default;

  /// d for embeddings of length D.
  [[nodiscard]] std::size_t size(std::size_t embedding) const noexcept {
    return projection.empty() ? embedding : projection.size() / embedding;
  }

  /// `known` elements of the embedding are there; the others stay at the centre. A query has no
  /// completion: of it only the first part, that of the prompt, is known.
  void place(std::span<const float> embedding, std::size_t known, std::span<float> f) const {
    CRAYON_ASSERT(f.size() == size(embedding.size()) && known <= embedding.size());
    CRAYON_ASSERT(centre.empty() || centre.size() == embedding.size());
    const auto centred = [&](std::size_t j) {
      return double{embedding[j]} - (centre.empty() ? 0.0 : double{centre[j]});
    };
    if (projection.empty()) {
      for (std::size_t j = 0; j < f.size(); ++j) {
        f[j] = j < known ? static_cast<float>(centred(j)) : 0;
      }
    } else {
      for (std::size_t i = 0; i < f.size(); ++i) {
        const float* row = projection.data() + i * embedding.size();
        double sum = 0;
        for (std::size_t j = 0; j < known; ++j) sum += double{row[j]} * centred(j);
        f[i] = static_cast<float>(sum);
      }
    }
    normalise(f);
  }
  void place(std::span<const float> embedding, std::span<float> f) const {
    place(embedding, embedding.size(), f);
  }
  /// Of all rows (n, D): (n, d).
  [[nodiscard]] std::vector<float> place(matrix_view<const float> embeddings) const {
    const std::size_t width = size(embeddings.cols);
    std::vector<float> places(embeddings.rows * width);
    for (std::size_t i = 0; i < embeddings.rows; ++i) {
      place({embeddings.row(i), embeddings.cols}, std::span(places).subspan(i * width, width));
    }
    return places;
  }
};

/// The mean direction of the rows (n, d) of each of `count` groups, (count, d): unit vectors, zero
/// for a group without rows. `group` (n) numbers them from 0.
[[nodiscard]] inline std::vector<float> centroids(matrix_view<const float> rows,
                                                  std::span<const std::size_t> group,
                                                  std::size_t count) {
  CRAYON_ASSERT(group.size() == rows.rows);
  std::vector<float> made(count * rows.cols);
  for (std::size_t i = 0; i < rows.rows; ++i) {
    CRAYON_ASSERT(group[i] < count);
    for (std::size_t j = 0; j < rows.cols; ++j) made[group[i] * rows.cols + j] += rows.row(i)[j];
  }
  for (std::size_t g = 0; g < count; ++g) {
    normalise(std::span(made).subspan(g * rows.cols, rows.cols));
  }
  return made;
}

/// The space of rows (n, D) of one group, around their mean; without a centre where that leaves no
/// mean direction: of one row, and of equal ones, nothing is left.
[[nodiscard]] inline index_space space_around_mean(matrix_view<const float> rows) {
  index_space space{mean_of(rows), {}};
  const std::vector<float> places = space.place(rows);
  const std::vector<std::size_t> one_group(rows.rows);
  const auto middle = centroids({places.data(), rows.rows, rows.cols}, one_group, 1);
  if (std::all_of(middle.begin(), middle.end(), [](float x) { return x == 0; })) {
    space.centre.clear();
  }
  return space;
}

}  // namespace crayon::match
