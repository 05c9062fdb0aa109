// SPDX-License-Identifier: MIT
// Whitening with known tasks: Fisher's linear discriminant. Needs Eigen.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <Eigen/Dense>

#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>
#include <crayon/match/index_space.hpp>

namespace crayon::match {

/// The space in which the samples of a task lie close together and tasks far apart (Fisher 1936,
/// Rao 1948): rows of P are the leading `directions` of the task means after whitening by the
/// covariance within tasks. `embeddings` (n, D), `task` (n) numbered from 0, `parts` equal parts of
/// an embedding, each with a scale of its own; `shrinkage` times a part's mean variance is added to
/// its diagonal (Friedman 1989), so that n may be smaller than D. At most tasks - 1 directions
/// carry anything. Errors: fewer than 2 tasks, a task without samples, more directions than there
/// can be, a value that is not finite or whose square is not. Computed in `Real`; a template so that
/// only those who call it pay for Eigen's decompositions.
template <std::same_as<float> Real = float>
[[nodiscard]] result<index_space> fit_discriminant(matrix_view<const float> embeddings,
                                                   std::span<const std::size_t> task,
                                                   std::size_t directions, std::size_t parts,
                                                   float shrinkage = 0.1F) {
  using matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic>;
  const auto rows = static_cast<Eigen::Index>(embeddings.rows);
  const auto dim = static_cast<Eigen::Index>(embeddings.cols);
  if (task.size() != embeddings.rows || embeddings.cols == 0 || parts == 0 ||
      embeddings.cols % parts != 0) {
    return error{errc::bad_shape, std::to_string(embeddings.rows) + " embeddings of length " +
                                      std::to_string(embeddings.cols) + " in " +
                                      std::to_string(parts) + " parts, and " +
                                      std::to_string(task.size()) + " task numbers"};
  }
  std::vector<std::size_t> count;
  for (const std::size_t t : task) {
    if (t >= task.size()) {  // fewer samples than tasks
      return error{errc::bad_value, "task number " + std::to_string(t) + " among " +
                                        std::to_string(task.size()) + " samples"};
    }
    if (t >= count.size()) count.resize(t + 1);
    ++count[t];
  }
  for (std::size_t t = 0; t < count.size(); ++t) {
    if (count[t] == 0) {
      return error{errc::bad_value, "task " + std::to_string(t) + " of " +
                                        std::to_string(count.size()) + " has no sample"};
    }
  }
  if (count.size() < 2 || directions == 0 || directions >= count.size() ||
      directions > embeddings.cols) {
    return error{errc::bad_value,
                 std::to_string(directions) + " directions from " + std::to_string(count.size()) +
                     " tasks and embeddings of length " + std::to_string(embeddings.cols) +
                     "; there are at most tasks - 1, and as many as elements"};
  }
  if (!(shrinkage >= 0)) {
    return error{errc::bad_value,
                 "shrinkage is " + std::to_string(shrinkage) + ", needs 0 or more"};
  }
  using row_major = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  matrix x = Eigen::Map<const row_major, 0, Eigen::OuterStride<>>(
      embeddings.data, rows, dim,
      Eigen::OuterStride<>(static_cast<Eigen::Index>(embeddings.stride)));
  if (!x.allFinite()) return error{errc::bad_value, "an embedding is not finite"};
  const Eigen::Matrix<Real, 1, Eigen::Dynamic> centre = x.colwise().mean();
  x.rowwise() -= centre;
  const auto tasks = static_cast<Eigen::Index>(count.size());
  matrix means = matrix::Zero(tasks, dim);
  for (Eigen::Index i = 0; i < rows; ++i) {
    const std::size_t t = task[static_cast<std::size_t>(i)];
    means.row(static_cast<Eigen::Index>(t)) += x.row(i) / static_cast<float>(count[t]);
  }
  for (Eigen::Index i = 0; i < rows; ++i) {
    x.row(i) -= means.row(static_cast<Eigen::Index>(task[static_cast<std::size_t>(i)]));
  }
  matrix within = x.transpose() * x / static_cast<float>(rows);
  const Eigen::Index part = dim / static_cast<Eigen::Index>(parts);
  for (Eigen::Index first = 0; first < dim; first += part) {
    const float variance = within.diagonal().segment(first, part).mean();
    within.diagonal().segment(first, part).array() += shrinkage * variance + 1e-9F;
  }
  const Eigen::SelfAdjointEigenSolver<matrix> eigen(within);
  const matrix whitening =
      eigen.eigenvectors() *
      eigen.eigenvalues().cwiseMax(1e-12F).cwiseSqrt().cwiseInverse().asDiagonal() *
      eigen.eigenvectors().transpose();
  const matrix whitened = whitening * means.transpose();
  const Eigen::JacobiSVD<matrix> svd(whitened, Eigen::ComputeThinU);
  const auto kept = static_cast<Eigen::Index>(directions);
  const row_major projection = svd.matrixU().leftCols(kept).transpose() * whitening;
  if (!projection.allFinite()) return error{errc::bad_value, "the embeddings are too large"};
  index_space space;
  space.centre.assign(centre.data(), centre.data() + dim);
  space.projection.assign(projection.data(), projection.data() + projection.size());
  return space;
}

}  // namespace crayon::match
