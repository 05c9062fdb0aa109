// SPDX-License-Identifier: MIT
// R factors of adapters' stacked factors, in double. Needs Eigen.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

#include <Eigen/Core>
#include <Eigen/QR>

#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>

namespace crayon::blend {

/// R of a tall matrix (rows, columns) that comes in blocks of rows: each block is put under the R
/// so far and triangularised (Householder; sequential TSQR of Demmel et al. 2012). No Q, and no
/// more memory than a block. One object for many matrices. A template so that only those who use it
/// pay for Eigen's decomposition.
template <std::same_as<double> Real = double>
class basic_stacked_qr {
 public:
  using matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic>;

  /// Starts a matrix of that many columns.
  void start(std::size_t columns) {
    columns_ = static_cast<Eigen::Index>(columns);
    // Four times the columns: the R on top costs a quarter more; above 64 rows of a small one.
    const Eigen::Index rows = columns_ + std::max<Eigen::Index>(4 * columns_, 64);
    if (work_.rows() != rows || work_.cols() != columns_) work_.resize(rows, columns_);
    used_ = columns_;
    work_.topRows(columns_).setZero();
  }

  /// Columns [first, first + m.cols) of the next rows; `add` them once all columns are set.
  template <element E>
  void set(std::size_t first, matrix_view<const E> m) noexcept {
    for (std::size_t r = 0; r < m.rows; ++r) {
      for (std::size_t c = 0; c < m.cols; ++c) put(r, first + c, m.row(r)[c]);
    }
  }
  /// The same of the transpose: m (columns, rows).
  template <element E>
  void set_transposed(std::size_t first, matrix_view<const E> m) noexcept {
    for (std::size_t c = 0; c < m.rows; ++c) {
      for (std::size_t r = 0; r < m.cols; ++r) put(r, first + c, m.row(c)[r]);
    }
  }
  /// Rows that fit until the next `add`.
  [[nodiscard]] std::size_t room() const noexcept {
    return static_cast<std::size_t>(work_.rows() - used_);
  }
  void add(std::size_t rows) {
    used_ += static_cast<Eigen::Index>(rows);
    if (used_ == work_.rows()) triangularise();
  }

  /// (columns, columns) upper triangular, the diagonal not negative.
  [[nodiscard]] Eigen::Ref<const matrix> finish() {
    if (used_ > columns_) triangularise();
    for (Eigen::Index i = 0; i < columns_; ++i) {
      if (work_(i, i) < 0) work_.row(i) *= -1;
    }
    return work_.topRows(columns_);
  }

 private:
  template <element E>
  void put(std::size_t row, std::size_t column, E value) noexcept {
    work_(used_ + static_cast<Eigen::Index>(row), static_cast<Eigen::Index>(column)) =
        double{to_float(value)};
  }
  void triangularise() {
    auto block = work_.topRows(used_);
    Eigen::HouseholderQR<Eigen::Ref<matrix>> qr(block);
    for (Eigen::Index c = 0; c < columns_; ++c) {
      work_.col(c).segment(c + 1, used_ - c - 1).setZero();
    }
    used_ = columns_;
  }

  Eigen::Index columns_ = 0, used_ = 0;
  matrix work_;
};
using stacked_qr = basic_stacked_qr<>;

/// The factors of several adapters at one site, side by side: B (out, K) and A (K, in).
template <element E>
struct stacked_factors {
  std::vector<std::size_t> first;  ///< column of each slot asked for, and K at the end
  aligned_vector<E> memory_a, memory_b;
  matrix_view<const E> a, b;

  /// Copies those of `slots`, in that order.
  template <class P>
  void gather(const P& source, std::size_t site, std::span<const std::size_t> slots) {
    first.clear();
    std::size_t columns = 0;
    for (const std::size_t slot : slots) {
      first.push_back(columns);
      columns += source.rank(slot, site);
    }
    first.push_back(columns);
    const std::size_t rows = source.out(site), width = source.in(site);
    memory_a.resize(columns * width);
    memory_b.resize(columns * rows);
    for (std::size_t k = 0; k < slots.size(); ++k) {
      const std::size_t rank = first[k + 1] - first[k];
      if (rank == 0) continue;
      source.copy_a(slots[k], site,
                    matrix_view<E>(memory_a.data() + first[k] * width, rank, width));
      source.copy_b(slots[k], site,
                    matrix_view<E>(memory_b.data() + first[k], rows, rank, columns));
    }
    a = {memory_a.data(), columns, width};
    b = {memory_b.data(), rows, columns};
  }
};

/// R of B (out, K).
template <element E>
[[nodiscard]] Eigen::Ref<const Eigen::MatrixXd> r_of_rows(stacked_qr& qr, matrix_view<const E> b) {
  qr.start(b.cols);
  for (std::size_t done = 0; b.cols != 0 && done < b.rows;) {
    const std::size_t rows = std::min(qr.room(), b.rows - done);
    qr.set(0, b.rows_from(done, rows));
    qr.add(rows);
    done += rows;
  }
  return qr.finish();
}

/// R of A^T, with A (K, in).
template <element E>
[[nodiscard]] Eigen::Ref<const Eigen::MatrixXd> r_of_columns(stacked_qr& qr,
                                                             matrix_view<const E> a) {
  qr.start(a.rows);
  for (std::size_t done = 0; a.rows != 0 && done < a.cols;) {
    const std::size_t rows = std::min(qr.room(), a.cols - done);
    qr.set_transposed(0, matrix_view<const E>(a.data + done, a.rows, rows, a.stride));
    qr.add(rows);
    done += rows;
  }
  return qr.finish();
}

}  // namespace crayon::blend
