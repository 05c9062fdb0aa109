// SPDX-License-Identifier: MIT
// Whitening without labels: every direction of the embeddings gets the same variance. Needs Eigen.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <string>
#include <vector>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>

#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>
#include <crayon/match/index_space.hpp>

namespace crayon::match {

enum class whitening {
  pca,  ///< P = L^-1/2 U^T: the leading principal directions, each scaled to variance 1
  zca   ///< P = U L^-1/2 U^T: the same, turned back; every element stays near the one it was
};

/// The space in which embeddings (n, D) have covariance I, up to the shrinkage: S = U L U^T is
/// their covariance, (1 - shrinkage) S + shrinkage * diag(mean variance of each of `parts` equal
/// parts) is what is inverted, so that n may be smaller than D (Ledoit, Wolf 2004, with one target
/// per part) and directions of noise are not blown up. `directions` (0: D) keeps the leading ones;
/// with all of them, cosines are the same for both kinds. Errors: fewer than 2 embeddings, more
/// directions than D, a shrinkage outside [0, 1], a value that is not finite or whose square is
/// not, a direction without variance at shrinkage 0. Computed in `Real`; a template so that only
/// those who call it pay for Eigen's decomposition.
template <std::same_as<double> Real = double>
[[nodiscard]] result<index_space> fit_whitening(matrix_view<const float> embeddings, whitening kind,
                                                std::size_t directions = 0, std::size_t parts = 1,
                                                float shrinkage = 0.1F) {
  using matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic>;
  using vector = Eigen::Matrix<Real, Eigen::Dynamic, 1>;
  const std::size_t width = embeddings.cols;
  if (directions == 0) directions = width;
  if (embeddings.rows < 2 || width == 0 || parts == 0 || width % parts != 0 || directions > width) {
    return error{errc::bad_shape, std::to_string(embeddings.rows) + " embeddings of length " +
                                      std::to_string(width) + " in " + std::to_string(parts) +
                                      " parts for " + std::to_string(directions) + " directions"};
  }
  if (!(shrinkage >= 0 && shrinkage <= 1)) {
    return error{errc::bad_value, "shrinkage is " + std::to_string(shrinkage) + ", needs 0 to 1"};
  }
  const auto rows = static_cast<Eigen::Index>(embeddings.rows);
  const auto dim = static_cast<Eigen::Index>(width);
  matrix x = matrix::NullaryExpr(rows, dim, [&](Eigen::Index r, Eigen::Index c) {
    return double{embeddings.row(static_cast<std::size_t>(r))[c]};
  });
  const Eigen::Matrix<Real, 1, Eigen::Dynamic> centre = x.colwise().mean();
  x.rowwise() -= centre;
  matrix covariance = x.transpose() * x / static_cast<double>(rows);
  if (!covariance.template cast<float>().allFinite()) {
    return error{errc::bad_value, "an embedding is not finite, or too large"};
  }
  const Eigen::Index part = dim / static_cast<Eigen::Index>(parts);
  vector target(dim);
  for (Eigen::Index first = 0; first < dim; first += part) {
    target.segment(first, part).setConstant(covariance.diagonal().segment(first, part).mean());
  }
  const double keep = 1 - double{shrinkage};
  covariance *= keep;
  covariance.diagonal() += double{shrinkage} * target;
  const Eigen::SelfAdjointEigenSolver<matrix> eigen(covariance);  // ascending
  const auto kept = static_cast<Eigen::Index>(directions);
  const vector variance = eigen.eigenvalues().tail(kept).reverse();
  const matrix u = eigen.eigenvectors().rightCols(kept).rowwise().reverse();
  if (!(variance(kept - 1) > 1e-12 * variance(0))) {
    return error{errc::bad_value,
                 "of " + std::to_string(directions) + " directions one has variance " +
                     std::to_string(variance(kept - 1)) + "; take fewer, or a larger shrinkage"};
  }
  const matrix pca = variance.cwiseSqrt().cwiseInverse().asDiagonal() * u.transpose();
  using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const row_major projection = kind == whitening::pca ? row_major(pca.template cast<float>())
                                                      : row_major((u * pca).template cast<float>());
  index_space space;
  space.centre.resize(width);
  for (std::size_t j = 0; j < width; ++j) {
    space.centre[j] = static_cast<float>(centre(static_cast<Eigen::Index>(j)));
  }
  space.projection.assign(projection.data(), projection.data() + projection.size());
  return space;
}

}  // namespace crayon::match
