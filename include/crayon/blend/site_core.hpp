// SPDX-License-Identifier: MIT
// The small core of a weighted sum of adapters at one site, and its leading singular triplets.
// Needs Eigen.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <Eigen/Core>
#include <Eigen/SVD>

#include <crayon/adapter/cores.hpp>
#include <crayon/blend/bidiagonal.hpp>
#include <crayon/blend/finite.hpp>
#include <crayon/blend/householder.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>

namespace crayon::blend {

/// sum_i w_i s_i B_i A_i = Q_B K Q_A^T with K = R_B D R_A^T, D the weights times the scales, each
/// repeated over the rank of its adapter. Keeps its memory: nothing is allocated once it has seen
/// its largest site, unless singular values coincide (see `leading`).
template <kernel_backend B>
class site_core {
 public:
  /// The columns [first, first + count) of the R factors, one range for each adapter, and d for
  /// each. Adapters that are not named have weight zero.
  struct part {
    std::size_t first;
    std::size_t count;
    float d;
  };

  /// False: K is not finite.
  [[nodiscard]] bool load(const adapter::site_cores& cores, std::span<const part> parts) {
    columns_ = 0;
    std::size_t last = 0;
    for (const part& p : parts) columns_ += p.count, last = std::max(last, p.first + p.count);
    // R is upper triangular: its rows from `last` on are zero in these columns.
    const std::size_t rows = last;
    n_ = std::min(rows, columns_);
    for (auto* m : {&r_a_, &r_b_}) m->resize(rows * columns_);
    scaled_.resize(n_ * columns_);
    d_.resize(columns_);
    std::size_t at = 0;
    for (const part& p : parts) {
      for (std::size_t r = 0; r < rows; ++r) {
        std::copy_n(cores.r_a.row(r) + p.first, p.count, r_a_.data() + r * columns_ + at);
        std::copy_n(cores.r_b.row(r) + p.first, p.count, r_b_.data() + r * columns_ + at);
      }
      std::fill_n(d_.data() + at, p.count, p.d);
      at += p.count;
    }
    if (n_ < rows) {
      row_.resize(rows);
      column_.resize(columns_);
      for (auto* m : {&r_a_, &r_b_}) {
        triangularise<float_kernels<B>>(matrix_view<float>(m->data(), rows, columns_), row_.data(),
                                        column_.data());
      }
    }
    for (std::size_t r = 0; r < n_; ++r) {
      for (std::size_t c = 0; c < columns_; ++c) {
        scaled_[r * columns_ + c] = d_[c] * r_b_[r * columns_ + c];
      }
    }
    k_.assign(n_ * quick_.stride(n_), 0);
    B::gemm_nt(view(scaled_, n_, columns_), view(r_a_, n_, columns_), square(k_), false);
    // Scaled by a power of two to a norm of about 1, which squares neither lose nor leave f32 with.
    float size = std::sqrt(B::sum_squares(k_.data(), k_.size()));
    if (!(size > 1e-15F && size < 1e15F)) {
      size = 0;
      for (const float x : k_) {
        if (!is_finite(x)) return false;
        size = std::max(size, std::abs(x));
      }
    }
    exponent_ = size > 0 ? std::ilogb(size) : 0;
    const int half = exponent_ / 2;  // in two steps: 2^-exponent alone may not be finite
    const float scale = std::ldexp(1.0F, -half), rest = std::ldexp(1.0F, half - exponent_);
    for (float& x : k_) x = x * scale * rest;
    return true;
  }

  /// Columns of the loaded adapters.
  [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
  /// At most this many singular values differ from zero.
  [[nodiscard]] std::size_t size() const noexcept { return n_; }

  /// All singular values of K, in double from R factors in f32, largest first; sigma has `size`.
  void singular_values(std::span<double> sigma) {
    core_in_double();
    exact_.reduce({in_double_.data(), n_, n_, exact_.stride(n_)});
    exact_.singular_values(sigma);
    for (double& s : sigma) s = std::ldexp(s, exponent_);
  }

  /// With K = U S V^T and its leading triplets (u, s, v), one per row of m_b and m_a, both
  /// (wanted, columns):
  ///   m_b = v^T R_A D / sqrt(s),  m_a = u^T R_B D / sqrt(s),
  /// so that [B_i] m_b^T and m_a [A_i] are the balanced factors of the best approximation:
  /// [B_i] D R_A^T v = Q_B K v = Q_B u s. No R is inverted, so they may be singular. Rows beyond
  /// the rank of K are zero. The largest element of each v is positive.
  void leading(matrix_view<float> m_b, matrix_view<float> m_a) {
    const std::size_t wanted = m_b.rows, kept = std::min(wanted, n_);
    sigma_.assign(wanted, 0);
    v_.resize(wanted * n_);
    u_.resize(wanted * n_);
    const matrix_view<float> v(v_.data(), kept, n_), u(u_.data(), kept, n_);
    work_.assign(k_.begin(), k_.end());
    quick_.reduce(square(work_));
    if (!quick_.leading(v, sigma_)) leading_by_jacobi(v);
    for (std::size_t k = 0; k < kept; ++k) {
      const auto larger = [](float x, float y) { return std::abs(x) < std::abs(y); };
      float* const row = v.row(k);
      if (*std::max_element(row, row + n_, larger) < 0) {
        for (std::size_t j = 0; j < n_; ++j) row[j] = -row[j];
      }
    }
    const matrix_view<float> to_b = m_b.rows_from(0, kept), to_a = m_a.rows_from(0, kept);
    B::gemm_nn(v, view(r_a_, n_, columns_), to_b, false);
    B::gemm_nt(v, matrix_view<const float>(square(k_)), u, false);  // s u
    orthonormalise(u);
    B::gemm_nn(u, view(scaled_, n_, columns_), to_a, false);
    const double power = std::ldexp(1.0, exponent_ / 2) * (exponent_ % 2 > 0   ? std::sqrt(2.0)
                                                           : exponent_ % 2 < 0 ? std::sqrt(0.5)
                                                                               : 1.0);
    for (std::size_t k = 0; k < wanted; ++k) {
      const bool zero = k >= kept || !(sigma_[k] > 0);
      const auto factor = zero ? 0.0F : static_cast<float>(1 / (power * std::sqrt(sigma_[k])));
      for (std::size_t c = 0; c < columns_; ++c) {
        m_b.row(k)[c] = zero ? 0 : m_b.row(k)[c] * d_[c] * factor;
        m_a.row(k)[c] = zero ? 0 : m_a.row(k)[c] * factor;
      }
    }
  }

 private:
  using matrix = Eigen::MatrixXd;

  static matrix_view<const float> view(const aligned_vector<float>& m, std::size_t rows,
                                       std::size_t cols) noexcept {
    return {m.data(), rows, cols};
  }
  [[nodiscard]] matrix_view<float> square(aligned_vector<float>& m) noexcept {
    return {m.data(), n_, n_, quick_.stride(n_)};
  }

  /// K from the R factors again: k_ has f32's rounding of a sum.
  void core_in_double() {
    const std::size_t stride = exact_.stride(n_);
    in_double_.assign(n_ * stride, 0);
    const double scale = std::ldexp(1.0, -exponent_);
    transposed_.resize(columns_ * stride);
    for (std::size_t c = 0; c < n_; ++c) {
      for (std::size_t j = 0; j < columns_; ++j) {
        transposed_[j * stride + c] = double{r_a_[c * columns_ + j]};
      }
    }
    for (std::size_t r = 0; r < n_; ++r) {
      double* const row = in_double_.data() + r * stride;
      for (std::size_t j = 0; j < columns_; ++j) {
        const double left = double{r_b_[r * columns_ + j]} * double{d_[j]};
        if (left == 0) continue;  // R is upper triangular
        const double* const from = transposed_.data() + j * stride;
        for (std::size_t c = 0; c < n_; ++c) row[c] += left * from[c];
      }
      for (std::size_t c = 0; c < n_; ++c) row[c] *= scale;
    }
  }

  /// For equal singular values, whose vectors nothing tells apart; allocates.
  void leading_by_jacobi(matrix_view<float> v) {
    core_in_double();
    const auto n = static_cast<Eigen::Index>(n_);
    using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const matrix k = Eigen::Map<const row_major, 0, Eigen::OuterStride<>>(
        in_double_.data(), n, n,
        Eigen::OuterStride<>(static_cast<Eigen::Index>(exact_.stride(n_))));
    const Eigen::JacobiSVD<matrix> svd(k, Eigen::ComputeThinV);
    for (std::size_t i = 0; i < v.rows; ++i) {
      const auto index = static_cast<Eigen::Index>(i);
      const double s = svd.singularValues()(index);
      const bool zero = !(s > 1e-7 * svd.singularValues()(0));
      sigma_[i] = zero ? 0 : s;
      for (std::size_t j = 0; j < n_; ++j) {
        v.row(i)[j] =
            zero ? 0 : static_cast<float>(svd.matrixV()(static_cast<Eigen::Index>(j), index));
      }
    }
  }

  /// Rows in descending order of their length, by Gram and Schmidt, twice. K v / s has errors of
  /// eps s_1 / s along the larger u, which s_1 would multiply again in u^T K: they must go.
  void orthonormalise(matrix_view<float> u) {
    for (std::size_t k = 0; k < u.rows; ++k) {
      float* const row = u.row(k);
      double length = 0;
      for (int twice = 0; twice < 2; ++twice) {
        length = std::sqrt(double{B::sum_squares(row, n_)});
        if (!(length > 0)) break;
        const auto factor = static_cast<float>(1 / length);
        for (std::size_t j = 0; j < n_; ++j) row[j] *= factor;
        for (std::size_t i = 0; i < k; ++i) B::axpy(-B::dot(u.row(i), row, n_), u.row(i), row, n_);
      }
      length = std::sqrt(double{B::sum_squares(row, n_)});
      const auto factor = length > 0.5 ? static_cast<float>(1 / length) : 0.0F;
      for (std::size_t j = 0; j < n_; ++j) row[j] *= factor;
    }
  }

  std::size_t n_ = 0, columns_ = 0;
  int exponent_ = 0;  // K = 2^exponent k_
  aligned_vector<float> r_a_, r_b_, scaled_, d_, k_, work_, v_, u_, row_, column_;
  std::vector<double> sigma_;
  aligned_vector<double> in_double_, transposed_;
  bidiagonal<float_kernels<B>> quick_;
  bidiagonal<double_loops> exact_;
};

}  // namespace crayon::blend
