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

  /// Elements of a cache line: rows are that far apart, or a multiple.
  static constexpr std::size_t line = alignment / sizeof(real);
  [[nodiscard]] static constexpr std::size_t stride(std::size_t n) noexcept {
    return (n + line - 1) / line * line;
  }

  /// c (n, n), of magnitude about 1, its rows `stride(n)` apart with zeros between them, is
  /// overwritten and must stay until the vectors are taken.
  void reduce(matrix_view<real> c) {
    n_ = c.rows;
    c_ = c;
    for (auto* v : {&tau_, &x_, &y_}) v->resize(stride(n_));
    CRAYON_ASSERT(c.stride == stride(n_));
    for (auto* v : {&t_, &g_, &s_}) v->resize(n_);
    double diagonal = 0, beside = 0, above = 0;
    for (std::size_t k = 0; k < n_; ++k) {
      const std::size_t rows = n_ - k, cols = rows - 1;
      for (std::size_t r = 0; r < rows; ++r) x_[r] = c.row(k + r)[k];
      const auto left = reflect<Ops>(x_.data(), rows);
      // Whole cache lines of each row: what is left of column k + 1 gets zeros and stays.
      const std::size_t start = (k + 1) / line * line, before = k + 1 - start;
      const std::size_t width = cols == 0 ? 0 : c.stride - start;
      if (cols > 0 && left.tau != 0) {
        const matrix_view<real> right_of(c.row(k) + start, rows, width, c.stride);
        Ops::gemv_t(right_of, x_.data(), y_.data());
        std::fill_n(y_.data(), before, real{0});
        Ops::ger(-left.tau, x_.data(), y_.data(), right_of);
      }
      reflection<real> right;
      if (cols > 0) right = reflect<Ops>(c.row(k) + k + 1, cols);
      if (cols > 1 && right.tau != 0) {
        std::fill_n(y_.data(), before, real{0});
        std::copy_n(c.row(k) + k + 1, width - before, y_.data() + before);
        const matrix_view<real> below(c.row(k + 1) + start, cols, width, c.stride);
        Ops::gemv(below, y_.data(), x_.data());
        Ops::ger(-right.tau, x_.data(), y_.data(), below);
      }
      tau_[k] = right.tau;
      const auto d = static_cast<double>(left.alpha), e = static_cast<double>(right.alpha);
      t_[k] = d * d + above * above;
      const double product = d * e;
      // Not zero: a pivot of zero may then be divided by.
      g_[k] = std::abs(product) < tiny ? tiny : product;
      s_[k] = std::max(product * product, tiny);
      above = e;
      diagonal = std::max(diagonal, std::abs(d));
      beside = std::max(beside, std::abs(e));
    }
    bound_ = (diagonal + beside) * (1 + 1e-12);
  }

  /// The largest sigma.size() singular values, largest first, to `bits` bits of a bound of the
  /// first.
  void singular_values(std::span<double> sigma, int bits = 60) const noexcept {
    for (std::size_t first = 0; first < sigma.size(); first += lanes) {
      const bracket b = bisect(first, sigma.size(), bits);
      for (std::size_t l = 0; l < lanes && first + l < sigma.size(); ++l) {
        sigma[first + l] = (b.low[l] + b.high[l]) / 2;
      }
    }
  }

  /// As many as v (wanted, n) has rows, as those rows, and their singular values. Both are zero
  /// where a singular value is not distinguishable from zero. False if the vectors did not come out
  /// orthonormal (equal singular values of a matrix that decouples): then neither is usable.
  [[nodiscard]] bool leading(matrix_view<real> v, std::span<double> sigma) {
    if (!vectors(v.rows, sigma, 20, true) && !vectors(v.rows, sigma, 60, false)) return false;
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

  /// How many eigenvalues of T = B^T B are below each shift (Sturm).
  [[nodiscard]] lane below(const lane& shift) const noexcept {
    lane pivot, count{};
    pivot.fill(INFINITY);
    double beside = tiny;
    for (std::size_t i = 0; i < n_; ++i) {
      for (std::size_t l = 0; l < lanes; ++l) {
        pivot[l] = (t_[i] - shift[l]) - beside / pivot[l];
        count[l] += pivot[l] < 0 ? 1.0 : 0.0;
      }
      beside = s_[i];
    }
    return count;
  }

  /// Around singular values first, first + 1, ... < wanted, in descending order; `bits` bits of the
  /// bound. Lanes that share a bracket divide it between them.
  [[nodiscard]] bracket bisect(std::size_t first, std::size_t wanted, int bits) const noexcept {
    bracket b;
    b.low.fill(0);
    b.high.fill(0);
    const std::size_t used = std::min(lanes, wanted - first);
    std::fill_n(b.high.data(), used, bound_);
    const double enough = std::ldexp(bound_, -bits);
    for (int pass = 0; pass < bits; ++pass) {
      lane middle{}, square;
      double widest = 0;
      for (std::size_t l = 0, end = 0; l < used; l = end) {
        const double width = b.high[l] - b.low[l];
        widest = std::max(widest, width);
        while (end < used && b.low[end] == b.low[l] && b.high[end] == b.high[l]) ++end;
        for (std::size_t j = l; j < end; ++j) {
          const double part = static_cast<double>(end - j) / static_cast<double>(end - l + 1);
          middle[j] = b.low[l] + part * width;
        }
      }
      if (widest <= enough) break;
      for (std::size_t l = 0; l < lanes; ++l) square[l] = middle[l] * middle[l];
      const lane count = below(square);
      for (std::size_t l = 0; l < used; ++l) {
        for (std::size_t j = 0; j < used; ++j) {
          const bool higher = static_cast<double>(n_) - count[j] > static_cast<double>(first + l);
          if (higher) b.low[l] = std::max(b.low[l], middle[j]);
          if (!higher) b.high[l] = std::min(b.high[l], middle[j]);
        }
      }
    }
    return b;
  }

  /// z: for each lane the vector with (B^T B - shift) z = gamma e_k, k where |gamma| is smallest.
  /// Returns gamma / |z|^2, what the Rayleigh quotient adds to the shift.
  lane twisted(const lane& shift, std::size_t first, std::size_t wanted) {
    for (auto* v : {&down_, &up_, &lower_, &upper_}) v->resize(n_ * lanes);
    lane down, up, correction{};
    for (std::size_t l = 0; l < lanes; ++l) {
      down[l] = t_[0] - shift[l];
      up[l] = t_[n_ - 1] - shift[l];
    }
    for (std::size_t i = 0; i < n_; ++i) {  // both ways at once: each waits for its divisions
      const std::size_t back = n_ - 1 - i, next = std::min(i + 1, n_ - 1);
      const std::size_t last = back == 0 ? 0 : back - 1;
      for (std::size_t l = 0; l < lanes; ++l) {
        down_[i * lanes + l] = down[l];
        lower_[i * lanes + l] = g_[i] / down[l];
        down[l] = (t_[next] - shift[l]) - g_[i] * lower_[i * lanes + l];
        up_[back * lanes + l] = up[l];
        upper_[back * lanes + l] = g_[last] / up[l];
        up[l] = (t_[last] - shift[l]) - g_[last] * upper_[back * lanes + l];
      }
    }
    for (std::size_t l = 0; l < lanes && first + l < wanted; ++l) {
      std::size_t k = 0;
      double smallest = INFINITY, gamma = 0;
      for (std::size_t i = 0; i < n_; ++i) {
        const double here = down_[i * lanes + l] + up_[i * lanes + l] - (t_[i] - shift[l]);
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
  [[nodiscard]] bool vectors(std::size_t wanted, std::span<double> sigma, int bits, bool refine) {
    z_.assign(wanted * n_, 0);
    bool inside = true;
    for (std::size_t first = 0; first < wanted && bound_ > 0; first += lanes) {
      const bracket b = bisect(first, wanted, bits);
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
        if (!(std::abs(product - (j == k ? 1.0 : 0.0)) < 1e-6)) return false;
      }
    }
    return true;
  }

  std::size_t n_ = 0;
  matrix_view<real> c_;
  aligned_vector<real> tau_, x_, y_;
  std::vector<double> t_, g_, s_;  // T = B^T B: its diagonal, the one beside it and its squares
  double bound_ = 0;               // of the singular values
  std::vector<double> down_, up_, lower_, upper_;  // (n, lanes)
  std::vector<double> z_;                          // (wanted, n)
};

}  // namespace crayon::blend
