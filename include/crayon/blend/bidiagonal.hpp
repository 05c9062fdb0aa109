// SPDX-License-Identifier: MIT
// The largest singular values of a small square matrix, and their right singular vectors.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <crayon/blend/householder.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/view.hpp>

namespace crayon::blend {

/// C = U B V^T with B upper bidiagonal (Golub and Kahan 1965), backward stable in Ops::real. From
/// there in double: the wanted singular values by bisection with the differential qd transform, all
/// in lanes beside each other, and their vectors by twisted factorisations (Dhillon and Parlett
/// 2004). Small: n up to some hundreds. Keeps its memory.
template <class Ops>
class bidiagonal {
 public:
  using real = typename Ops::real;

  /// c (n, n), of magnitude about 1, is overwritten and must stay until the vectors are taken.
  void reduce(matrix_view<real> c) {
    n_ = c.rows;
    c_ = c;
    for (auto* v : {&tau_, &x_, &y_}) v->resize(n_);
    for (auto* v : {&q_, &e_, &g_}) v->resize(n_);
    double diagonal = 0, beside = 0;
    for (std::size_t k = 0; k < n_; ++k) {
      const std::size_t rows = n_ - k, cols = rows - 1;
      for (std::size_t r = 0; r < rows; ++r) x_[r] = c.row(k + r)[k];
      const auto left = reflect<Ops>(x_.data(), rows);
      real* const row = c.row(k) + k + 1;
      if (cols > 0 && left.tau != 0) {
        const matrix_view<real> right_of(row, rows, cols, c.stride);
        Ops::gemv_t(right_of, x_.data(), y_.data());
        Ops::ger(-left.tau, x_.data(), y_.data(), right_of);
      }
      reflection<real> right;
      if (cols > 0) right = reflect<Ops>(row, cols);
      if (cols > 1 && right.tau != 0) {
        const matrix_view<real> below(row + c.stride, cols, cols, c.stride);
        Ops::gemv(below, row, x_.data());
        Ops::ger(-right.tau, x_.data(), row, below);
      }
      tau_[k] = right.tau;
      const auto d = static_cast<double>(left.alpha), e = static_cast<double>(right.alpha);
      q_[k] = d * d;
      e_[k] = e * e;  // 0 in the last
      g_[k] = d * e;
      diagonal = std::max(diagonal, std::abs(d));
      beside = std::max(beside, std::abs(e));
    }
    bound_ = (diagonal + beside) * (1 + 1e-12);
  }

  /// The largest sigma.size() singular values, largest first, to `passes` bits of the first.
  void singular_values(std::span<double> sigma, int passes = 60) const noexcept {
    for (std::size_t first = 0; first < sigma.size(); first += lanes) {
      const bracket b = bisect(first, passes);
      for (std::size_t l = 0; l < lanes && first + l < sigma.size(); ++l) {
        sigma[first + l] = (b.low[l] + b.high[l]) / 2;
      }
    }
  }

  /// As many as v (wanted, n) has rows, as those rows, and their singular values. Both are zero
  /// where a singular value is not distinguishable from zero. False if the vectors did not come out
  /// orthonormal (equal singular values of a matrix that decouples): then neither is usable.
  [[nodiscard]] bool leading(matrix_view<real> v, std::span<double> sigma) {
    if (!vectors(v.rows, sigma, 26, true) && !vectors(v.rows, sigma, 60, false)) return false;
    for (std::size_t k = 0; k < v.rows; ++k) {
      for (std::size_t j = 0; j < n_; ++j) v.row(k)[j] = static_cast<real>(z_[k * n_ + j]);
    }
    for (std::size_t k = n_ < 2 ? 0 : n_ - 1; k-- > 0;) {
      if (tau_[k] == 0) continue;
      const real* u = c_.row(k) + k + 1;
      const matrix_view<real> part(v.data + k + 1, v.rows, n_ - k - 1, v.stride);
      y_.resize(std::max(n_, v.rows));
      Ops::gemv(part, u, y_.data());
      Ops::ger(-tau_[k], y_.data(), u, part);
    }
    return true;
  }

 private:
  static constexpr std::size_t lanes = 8;
  static constexpr double tiny = 1e-290;
  static constexpr double noise = 1e-7;  ///< of the largest singular value: as good as zero
  using lane = std::array<double, lanes>;
  struct bracket {
    lane low, high;  ///< of singular values
  };

  static double nonzero(double pivot) noexcept { return std::abs(pivot) < tiny ? -tiny : pivot; }

  /// How many eigenvalues of B^T B are below each shift.
  [[nodiscard]] lane below(const lane& shift) const noexcept {
    lane s, count{};
    for (std::size_t l = 0; l < lanes; ++l) s[l] = -shift[l];
    for (std::size_t i = 0; i < n_; ++i) {
      for (std::size_t l = 0; l < lanes; ++l) {
        const double pivot = nonzero(q_[i] + s[l]);
        count[l] += pivot < 0 ? 1.0 : 0.0;
        s[l] = e_[i] * (s[l] / pivot) - shift[l];
      }
    }
    return count;
  }

  /// Around singular values first, first + 1, ... in descending order.
  [[nodiscard]] bracket bisect(std::size_t first, int passes) const noexcept {
    bracket b;
    b.low.fill(0);
    b.high.fill(bound_);
    for (int pass = 0; pass < passes; ++pass) {
      lane middle, square;
      for (std::size_t l = 0; l < lanes; ++l) {
        middle[l] = (b.low[l] + b.high[l]) / 2;
        square[l] = middle[l] * middle[l];
      }
      const lane count = below(square);
      for (std::size_t l = 0; l < lanes; ++l) {
        const bool higher = static_cast<double>(n_) - count[l] > static_cast<double>(first + l);
        (higher ? b.low : b.high)[l] = middle[l];
      }
    }
    return b;
  }

  /// z: for each lane the vector with (B^T B - shift) z = gamma e_k, k where |gamma| is smallest.
  /// Returns gamma / |z|^2, what the Rayleigh quotient adds to the shift.
  lane twisted(const lane& shift, std::size_t first, std::size_t wanted) {
    for (auto* v : {&s_, &p_, &lower_, &upper_}) v->resize(n_ * lanes);
    lane s, p, correction{};
    for (std::size_t l = 0; l < lanes; ++l) s[l] = -shift[l];
    for (std::size_t i = 0; i < n_; ++i) {
      for (std::size_t l = 0; l < lanes; ++l) {
        const double inverse = 1 / nonzero(q_[i] + s[l]);
        s_[i * lanes + l] = s[l];
        lower_[i * lanes + l] = g_[i] * inverse;
        s[l] = e_[i] * (s[l] * inverse) - shift[l];
      }
    }
    for (std::size_t l = 0; l < lanes; ++l) p[l] = q_[n_ - 1] - shift[l];
    for (std::size_t i = n_; i-- > 0;) {
      for (std::size_t l = 0; l < lanes; ++l) {
        p_[i * lanes + l] = p[l];
        if (i == 0) continue;
        const double inverse = 1 / nonzero(e_[i - 1] + p[l]);
        upper_[i * lanes + l] = g_[i - 1] * inverse;
        p[l] = q_[i - 1] * (p[l] * inverse) - shift[l];
      }
    }
    for (std::size_t l = 0; l < lanes && first + l < wanted; ++l) {
      std::size_t k = 0;
      double smallest = INFINITY, gamma = 0;
      for (std::size_t i = 0; i < n_; ++i) {
        const double here = s_[i * lanes + l] + p_[i * lanes + l] + shift[l];
        if (std::abs(here) < smallest) smallest = std::abs(here), gamma = here, k = i;
      }
      double* const z = z_.data() + (first + l) * n_;
      double squares = 1;
      z[k] = 1;
      for (std::size_t i = k; i-- > 0;) {
        z[i] = -lower_[i * lanes + l] * z[i + 1];
        squares += z[i] * z[i];
      }
      for (std::size_t i = k + 1; i < n_; ++i) {
        z[i] = -upper_[i * lanes + l] * z[i - 1];
        squares += z[i] * z[i];
      }
      correction[l] = gamma / squares;
      const double factor = 1 / std::sqrt(squares);
      for (std::size_t i = 0; i < n_; ++i) z[i] *= factor;
    }
    return correction;
  }

  /// z_ (wanted, n) and sigma; false if not orthonormal, or if a Rayleigh quotient left the bracket
  /// of its singular value.
  [[nodiscard]] bool vectors(std::size_t wanted, std::span<double> sigma, int passes, bool refine) {
    z_.assign(wanted * n_, 0);
    bool inside = true;
    for (std::size_t first = 0; first < wanted && bound_ > 0; first += lanes) {
      const bracket b = bisect(first, passes);
      lane shift;
      for (std::size_t l = 0; l < lanes; ++l) {
        const double middle = (b.low[l] + b.high[l]) / 2;
        shift[l] = middle * middle;
      }
      if (refine) {
        const lane correction = twisted(shift, first, wanted);
        for (std::size_t l = 0; l < lanes && first + l < wanted; ++l) {
          shift[l] = std::max(shift[l] + correction[l], 0.0);
          const double root = std::sqrt(shift[l]), width = b.high[l] - b.low[l];
          inside &=
              b.high[l] < noise * bound_ || (root >= b.low[l] - width && root <= b.high[l] + width);
        }
      }
      twisted(shift, first, wanted);
      for (std::size_t l = 0; l < lanes && first + l < wanted; ++l) {
        sigma[first + l] = std::sqrt(shift[l]);
      }
    }
    if (!(bound_ > 0)) std::fill_n(sigma.data(), wanted, 0.0);
    for (std::size_t k = 0; k < wanted; ++k) {
      if (sigma[k] > noise * sigma[0]) continue;
      sigma[k] = 0;
      std::fill_n(z_.data() + k * n_, n_, 0.0);
    }
    return inside && orthonormal(wanted, sigma);
  }

  [[nodiscard]] bool orthonormal(std::size_t wanted, std::span<const double> sigma) const noexcept {
    for (std::size_t k = 0; k < wanted && sigma[k] > 0; ++k) {
      for (std::size_t j = 0; j <= k; ++j) {
        const double product = double_loops::dot(z_.data() + j * n_, z_.data() + k * n_, n_);
        if (!(std::abs(product - (j == k ? 1.0 : 0.0)) < 1e-7)) return false;
      }
    }
    return true;
  }

  std::size_t n_ = 0;
  matrix_view<real> c_;
  aligned_vector<real> tau_, x_, y_;
  std::vector<double> q_, e_, g_;  // d^2, e^2, d e of B's diagonal d and the one beside it
  double bound_ = 0;               // of the singular values
  std::vector<double> s_, p_, lower_, upper_;  // (n, lanes)
  std::vector<double> z_;                      // (wanted, n)
};

}  // namespace crayon::blend
