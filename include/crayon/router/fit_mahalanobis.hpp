// SPDX-License-Identifier: MIT
// Embeddings of a task's samples -> means and a covariance to measure with. Needs Eigen.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>

#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>
#include <crayon/router/index_distance.hpp>

namespace crayon::router {

struct mahalanobis_options {
  std::size_t directions = 0;      ///< k, at most d; 0: all that the samples have
  float shrinkage = not_measured;  ///< 0 to 1; NaN: estimated from the samples
};

namespace detail {

/// What Ledoit and Wolf (A well-conditioned estimator for large-dimensional covariance matrices,
/// 2004) shrink S by, towards its mean variance: scikit-learn's ledoit_wolf_shrinkage of rows that
/// are centred. `gram`: x x^T or x^T x / n, of which only the sum of squares counts.
[[nodiscard]] inline double ledoit_wolf(const Eigen::MatrixXd& x, double sum_of_squares) {
  const auto n = static_cast<double>(x.rows()), d = static_cast<double>(x.cols());
  const Eigen::VectorXd lengths = x.rowwise().squaredNorm();
  const double mean = lengths.sum() / n / d;
  const double spread = (sum_of_squares - d * mean * mean) / d;
  const double noise = (lengths.squaredNorm() / n - sum_of_squares) / (d * n);
  return spread > 0 ? std::clamp(noise / spread, 0.0, 1.0) : 0.0;
}

}  // namespace detail

/// Means of the groups of `embeddings` (n, d), `group` (n) numbered from 0 (empty: one group), and
/// the covariance within them, S = (1 - s) X^T X / n + s tr(X^T X / n) / d I with X the rows less
/// their means: Ledoit and Wolf's estimator where s is not given, positive definite though n < d.
/// Beyond `directions`, one variance: the mean of those left out. Errors: fewer than 2 embeddings,
/// a group without any, more directions than d, a shrinkage outside [0, 1], a value that is not
/// finite, no variance. Computed in `Real`; a template so that only those who call it pay for
/// Eigen's decomposition.
template <std::same_as<double> Real = double>
[[nodiscard]] result<mahalanobis> fit_mahalanobis(matrix_view<const float> embeddings,
                                                  std::span<const std::size_t> group = {},
                                                  mahalanobis_options options = {}) {
  using matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic>;
  using vector = Eigen::Matrix<Real, Eigen::Dynamic, 1>;
  const std::size_t rows = embeddings.rows, width = embeddings.cols;
  const auto wrong = [](std::string text) { return error{errc::bad_value, std::move(text)}; };
  if (rows < 2 || width == 0 || options.directions > width ||
      (!group.empty() && group.size() != rows)) {
    return error{errc::bad_shape, std::to_string(rows) + " embeddings of length " +
                                      std::to_string(width) + ", " + std::to_string(group.size()) +
                                      " group numbers, " + std::to_string(options.directions) +
                                      " directions"};
  }
  if (options.shrinkage < 0 || options.shrinkage > 1) {
    return wrong("shrinkage is " + std::to_string(options.shrinkage) + ", needs 0 to 1");
  }
  const auto n = static_cast<Eigen::Index>(rows), d = static_cast<Eigen::Index>(width);
  std::vector<std::size_t> count(1);
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t g = group.empty() ? 0 : group[i];
    if (g >= rows) return wrong("group " + std::to_string(g) + " of fewer samples");
    if (g >= count.size()) count.resize(g + 1);
    ++count[g];
  }
  matrix x = matrix::NullaryExpr(n, d, [&](Eigen::Index i, Eigen::Index j) {
    return double{embeddings.row(static_cast<std::size_t>(i))[j]};
  });
  const auto means = static_cast<Eigen::Index>(count.size());
  matrix mean = matrix::Zero(means, d);
  const Eigen::Matrix<Real, 1, Eigen::Dynamic> centre = x.colwise().mean();
  x.rowwise() -= centre;
  const auto group_of = [&](Eigen::Index i) {
    return static_cast<Eigen::Index>(group.empty() ? 0 : group[static_cast<std::size_t>(i)]);
  };
  for (Eigen::Index i = 0; i < n; ++i) mean.row(group_of(i)) += x.row(i);
  for (Eigen::Index c = 0; c < means; ++c) {
    const std::size_t in_group = count[static_cast<std::size_t>(c)];
    if (in_group == 0) return wrong("group " + std::to_string(c) + " has no sample");
    mean.row(c) /= static_cast<double>(in_group);
  }
  for (Eigen::Index i = 0; i < n; ++i) x.row(i) -= mean.row(group_of(i));

  // Eigenvalues of the smaller of X X^T / n and X^T X / n: what is not 0 is the same.
  const bool few = n < d;
  const matrix gram =
      (few ? matrix(x * x.transpose()) : matrix(x.transpose() * x)) / static_cast<double>(n);
  const double trace = gram.trace();
  if (!(trace > 0) || !std::isfinite(trace)) {
    return wrong("the embeddings have no variance, or are not finite");
  }
  const double s = std::isnan(options.shrinkage) ? detail::ledoit_wolf(x, gram.squaredNorm())
                                                 : double{options.shrinkage};
  const Eigen::SelfAdjointEigenSolver<matrix> eigen(gram);  // ascending
  const vector& values = eigen.eigenvalues();
  Eigen::Index k = 0;
  while (k < values.size() && values(values.size() - 1 - k) > 1e-12 * trace) ++k;
  if (!few && s > 0) k = d;
  if (options.directions != 0) k = std::min(k, static_cast<Eigen::Index>(options.directions));
  const vector kept = values.tail(k).reverse();
  matrix directions = eigen.eigenvectors().rightCols(k).rowwise().reverse();  // columns
  if (few) directions = (x.transpose() * directions).colwise().normalized();
  const double ground = s * trace / static_cast<double>(d);
  const double left =
      std::max(trace - kept.sum(), 0.0) / static_cast<double>(std::max<Eigen::Index>(d - k, 1));
  const double rest = (1 - s) * left + ground;
  if (k < d && !(rest > 1e-9 * trace / static_cast<double>(d))) {
    return wrong("of " + std::to_string(width) + " directions " + std::to_string(d - k) +
                 " have no variance: a shrinkage above 0 gives them some");
  }

  mahalanobis made;
  made.means = count.size();
  made.inverse_rest = k < d ? static_cast<float>(1 / rest) : 0;
  made.shrinkage = static_cast<float>(s);
  const auto put = [](std::vector<float>& to, const auto& all) {
    for (Eigen::Index i = 0; i < all.rows(); ++i) {
      for (Eigen::Index j = 0; j < all.cols(); ++j) to.push_back(static_cast<float>(all(i, j)));
    }
  };
  put(made.centre, centre);
  put(made.rows, mean);
  put(made.rows, directions.transpose());
  put(made.squares, mean.rowwise().squaredNorm());
  put(made.along, matrix(mean * directions));
  for (Eigen::Index i = 0; i < k; ++i) {
    const double inverse = 1 / ((1 - s) * kept(i) + ground);
    made.excess.push_back(static_cast<float>((k < d ? 1 / rest : 0) - inverse));
  }
  return made;
}

}  // namespace crayon::router
