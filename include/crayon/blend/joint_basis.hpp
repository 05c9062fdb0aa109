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

/// The leading left singular vectors of a small matrix, times the root of their singular values,
/// and divided by it: products of two of these are the best approximation of a rank. From the
/// squares, so that triplets below `joint_basis::least` of the largest are left out.
struct leading_vectors {
  joint_basis::matrix times, over;  ///< (rows, kept)

  leading_vectors(const joint_basis::matrix& squares, std::size_t rank) {
    const auto most = std::min(static_cast<Eigen::Index>(rank), squares.rows());
    times.resize(squares.rows(), most);
    over.resize(squares.rows(), most);
    if (most == 0) return;
    const Eigen::SelfAdjointEigenSolver<joint_basis::matrix> solver(squares);
    const auto& values = solver.eigenvalues();  // ascending
    Eigen::Index kept = 0;
    for (Eigen::Index at = squares.rows() - 1; kept < most; ++kept, --at) {
      if (!(values[at] > std::pow(joint_basis::least, 2) * values[squares.rows() - 1])) break;
      const double root = std::sqrt(std::sqrt(values[at]));
      times.col(kept) = solver.eigenvectors().col(at) * root;
      over.col(kept) = solver.eigenvectors().col(at) / root;
    }
    times.conservativeResize(Eigen::NoChange, kept);
    over.conservativeResize(Eigen::NoChange, kept);
  }
};

/// The leading singular triplets of U merged V^T, merged (k, l) column by column. The factors are
/// balanced; triplets that do not exist are zeros.
[[nodiscard]] inline small_factors split_core(const joint_basis& basis,
                                              std::span<const double> merged, std::size_t rank) {
  using matrix = joint_basis::matrix;
  const auto rows = static_cast<Eigen::Index>(rank);
  const Eigen::Map<const matrix> core(merged.data(), basis.left.cols(), basis.right.rows());
  const leading_vectors leading(core * core.transpose(), rank);
  small_factors f{small_rows::Zero(rows, basis.left.rows()),
                  small_rows::Zero(rows, basis.right.cols())};
  const matrix b = basis.left * leading.times, a = leading.over.transpose() * core * basis.right;
  f.b.topRows(b.cols()) = b.transpose().cast<float>();
  f.a.topRows(a.rows()) = a.cast<float>();
  return f;
}

/// The leading singular triplets of U merged, merged (k, in); `a` multiplies it.
[[nodiscard]] inline small_factors split_right(const joint_basis& basis,
                                               matrix_view<const float> merged, std::size_t rank) {
  using matrix = joint_basis::matrix;
  const auto rows = static_cast<Eigen::Index>(rank), k = static_cast<Eigen::Index>(merged.rows);
  const matrix right =
      Eigen::Map<const small_rows>(merged.data, k, static_cast<Eigen::Index>(merged.cols))
          .template cast<double>();
  const leading_vectors leading(right * right.transpose(), rank);
  small_factors f{small_rows::Zero(rows, basis.left.rows()), small_rows::Zero(rows, k)};
  const matrix b = basis.left * leading.times;
  f.b.topRows(b.cols()) = b.transpose().cast<float>();
  f.a.topRows(b.cols()) = leading.over.transpose().cast<float>();
  return f;
}

}  // namespace crayon::blend
