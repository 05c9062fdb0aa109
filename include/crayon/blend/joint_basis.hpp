// SPDX-License-Identifier: MIT
// The weight changes of several adapters at one site in bases that they share, without dW.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/SVD>

#include <crayon/blend/weights.hpp>
#include <crayon/core/view.hpp>

namespace crayon::blend {

/// U (out, k) and V (in, l) with orthonormal columns: the left singular vectors of
/// [dW_1 ... dW_N] (the basis of KnOTS, Stoica et al. 2024) and the right ones of the dW_i above
/// each other, with dW_i = s_i B_i A_i. They depend on the weight changes alone (up to signs), not
/// on how these are split into factors nor on the order of the adapters. Both are kept as
/// coefficients of the stacked factors, U = [B_1 ... B_N] left and V^T = right [A_1; ...; A_N], so
/// that nothing is larger than the sum n of the ranks. Directions below `least` of the largest
/// singular value are left out: they are rounding.
struct joint_basis {
  using matrix = Eigen::MatrixXd;
  static constexpr double least = 1e-6;

  matrix left;                      ///< (n, k)
  matrix right;                     ///< (l, n)
  std::vector<matrix> cores;        ///< U^T dW_i V, (k, l)
  std::vector<matrix> right_parts;  ///< U^T dW_i = right_parts[i] A_i, (k, r_i)

  /// From the Gram matrices of the stacked factors, (n, n): gram_b = B^T B, gram_a = A A^T.
  joint_basis(matrix gram_a, matrix gram_b, std::span<const std::size_t> ranks,
              std::span<const double> scales) {
    const auto a = orthonormal(gram_a), b = orthonormal(gram_b);
    matrix lefts = matrix::Zero(b.r.rows(), b.r.rows());
    matrix rights = matrix::Zero(a.r.rows(), a.r.rows());
    Eigen::Index first = 0;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      const auto rank = static_cast<Eigen::Index>(ranks[i]);
      cores.push_back(scales[i] * b.r.middleCols(first, rank) *
                      a.r.middleCols(first, rank).transpose());
      lefts.noalias() += cores.back() * cores.back().transpose();
      rights.noalias() += cores.back().transpose() * cores.back();
      first += rank;
    }
    const matrix u = principal(lefts), v = principal(rights);
    left = b.inverse * u;
    right = (a.inverse * v).transpose();
    first = 0;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      const auto rank = static_cast<Eigen::Index>(ranks[i]);
      cores[i] = (u.transpose() * cores[i] * v).eval();
      right_parts.push_back(scales[i] * u.transpose() * b.r.middleCols(first, rank));
      first += rank;
    }
  }

  /// k l
  [[nodiscard]] std::size_t core_size() const noexcept {
    return static_cast<std::size_t>(left.cols() * right.rows());
  }

 private:
  struct factor {
    matrix r;        ///< (m, n): r^T r is the Gram matrix
    matrix inverse;  ///< (n, m): X inverse is orthonormal, and X = (X inverse) r
  };

  /// The columns are brought to length 1 first, so that what is rounding is judged by direction and
  /// not by how an adapter splits its size between A and B.
  static factor orthonormal(matrix& gram) {
    Eigen::VectorXd length = gram.diagonal().cwiseMax(0).cwiseSqrt();
    for (auto& x : length) x = x > 0 ? x : 1;
    const Eigen::VectorXd shrink = length.cwiseInverse();
    gram = (shrink.asDiagonal() * gram * shrink.asDiagonal()).eval();
    const Eigen::SelfAdjointEigenSolver<matrix> solver(gram);
    const auto& values = solver.eigenvalues();  // ascending
    const double limit = least * least * values.maxCoeff();
    const auto kept = (values.array() > limit).count();
    const Eigen::VectorXd roots = values.tail(kept).cwiseSqrt();
    const matrix vectors = solver.eigenvectors().rightCols(kept);
    return {roots.asDiagonal() * vectors.transpose() * length.asDiagonal(),
            shrink.asDiagonal() * vectors * roots.cwiseInverse().asDiagonal()};
  }

  /// Eigenvectors of a positive matrix, the largest first.
  static matrix principal(const matrix& squares) {
    if (squares.rows() == 0) return matrix(0, 0);
    const Eigen::SelfAdjointEigenSolver<matrix> solver(squares);
    const auto& values = solver.eigenvalues();
    const auto kept = (values.array() > least * least * values.maxCoeff()).count();
    return solver.eigenvectors().rightCols(kept).rowwise().reverse();
  }
};

/// Gram matrix of the columns of some slots, from an R factor of the slots `of`, in that order.
template <factor_source P>
[[nodiscard]] Eigen::MatrixXd gram_of(const P& source, std::size_t site,
                                      std::span<const std::size_t> slots,
                                      std::span<const std::size_t> of, matrix_view<const float> r) {
  std::vector<std::size_t> columns;
  for (const std::size_t slot : slots) {
    std::size_t first = 0;
    for (std::size_t k = 0; of[k] != slot; ++k) first += source.rank(of[k], site);
    for (std::size_t c = 0; c < source.rank(slot, site); ++c) columns.push_back(first + c);
  }
  Eigen::MatrixXd m(static_cast<Eigen::Index>(r.rows), static_cast<Eigen::Index>(columns.size()));
  for (Eigen::Index i = 0; i < m.rows(); ++i) {
    for (Eigen::Index c = 0; c < m.cols(); ++c) {
      m(i, c) = double{r(static_cast<std::size_t>(i), columns[static_cast<std::size_t>(c)])};
    }
  }
  return m.transpose() * m;
}

/// Row-major, as the kernels take it.
using small_rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// B = [B_1 ... B_N] b^T and A = a F, both (rank, .): F is [A_1; ...; A_N], or a merged right
/// factor.
struct small_factors {
  small_rows b, a;
};

/// The leading singular triplets of U merged V^T, merged (k, l) column by column. The factors are
/// balanced; triplets that do not exist are zeros.
[[nodiscard]] inline small_factors split_core(const joint_basis& basis,
                                              std::span<const double> merged, std::size_t rank) {
  using matrix = joint_basis::matrix;
  const auto rows = static_cast<Eigen::Index>(rank);
  small_factors f{small_rows::Zero(rows, basis.left.rows()),
                  small_rows::Zero(rows, basis.right.cols())};
  if (merged.empty()) return f;
  const Eigen::Map<const matrix> core(merged.data(), basis.left.cols(), basis.right.rows());
  const Eigen::JacobiSVD<matrix> svd(core, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const auto kept = std::min(rows, svd.singularValues().size());
  const Eigen::VectorXd roots = svd.singularValues().head(kept).cwiseSqrt();
  const matrix left = basis.left * svd.matrixU().leftCols(kept) * roots.asDiagonal();
  const matrix right = roots.asDiagonal() * svd.matrixV().leftCols(kept).transpose() * basis.right;
  f.b.topRows(kept) = left.transpose().cast<float>();
  f.a.topRows(kept) = right.cast<float>();
  return f;
}

/// The leading singular triplets of U merged, merged (k, in); `a` multiplies it.
[[nodiscard]] inline small_factors split_right(const joint_basis& basis,
                                               matrix_view<const float> merged, std::size_t rank) {
  using matrix = joint_basis::matrix;
  const auto rows = static_cast<Eigen::Index>(rank), k = static_cast<Eigen::Index>(merged.rows);
  small_factors f{small_rows::Zero(rows, basis.left.rows()), small_rows::Zero(rows, k)};
  if (merged.empty()) return f;
  const matrix right =
      Eigen::Map<const small_rows>(merged.data, k, static_cast<Eigen::Index>(merged.cols))
          .template cast<double>();
  const Eigen::SelfAdjointEigenSolver<matrix> solver(right * right.transpose());
  const auto& squares = solver.eigenvalues();  // ascending
  for (Eigen::Index r = 0; r < std::min(rows, k); ++r) {
    const Eigen::Index from = k - 1 - r;
    if (!(squares[from] > std::pow(joint_basis::least, 2) * squares[k - 1])) break;
    const double root = std::sqrt(std::sqrt(squares[from]));
    const auto vector = solver.eigenvectors().col(from);
    f.b.row(r) = (basis.left * vector * root).transpose().cast<float>();
    f.a.row(r) = (vector / root).transpose().cast<float>();
  }
  return f;
}

}  // namespace crayon::blend
