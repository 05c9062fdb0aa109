// SPDX-License-Identifier: MIT
// Householder reflections over the loops of a backend, or in double.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include <crayon/concepts.hpp>

namespace crayon::blend {

/// The loops of a Householder reduction in f32, by a backend.
template <kernel_backend B>
struct float_kernels {
  using real = float;
  static real dot(const real* x, const real* y, std::size_t n) noexcept { return B::dot(x, y, n); }
  static void gemv(matrix_view<const real> w, const real* x, real* y) noexcept { B::gemv(w, x, y); }
  static void gemv_t(matrix_view<const real> w, const real* x, real* y) noexcept {
    B::gemv_t(w, x, y);
  }
  static void ger(real s, const real* x, const real* y, matrix_view<real> m) noexcept {
    B::ger(s, x, y, m);
  }
};

/// The same in double.
struct double_loops {
  using real = double;
  static real dot(const real* x, const real* y, std::size_t n) noexcept {
    std::array<real, 8> part{};  // compilers make vectors of these
    std::size_t j = 0;
    for (; j + part.size() <= n; j += part.size()) {
      for (std::size_t l = 0; l < part.size(); ++l) part[l] += x[j + l] * y[j + l];
    }
    real sum = 0;
    for (; j < n; ++j) sum += x[j] * y[j];
    for (const real p : part) sum += p;
    return sum;
  }
  static void gemv(matrix_view<const real> w, const real* x, real* y) noexcept {
    for (std::size_t r = 0; r < w.rows; ++r) y[r] = dot(w.row(r), x, w.cols);
  }
  static void gemv_t(matrix_view<const real> w, const real* x, real* y) noexcept {
    std::fill_n(y, w.cols, 0.0);
    for (std::size_t r = 0; r < w.rows; ++r) {
      for (std::size_t c = 0; c < w.cols; ++c) y[c] += x[r] * w.row(r)[c];
    }
  }
  static void ger(real s, const real* x, const real* y, matrix_view<real> m) noexcept {
    for (std::size_t r = 0; r < m.rows; ++r) {
      for (std::size_t c = 0; c < m.cols; ++c) m.row(r)[c] += s * x[r] * y[c];
    }
  }
};

/// I - tau v v^T with v[0] = 1 takes x to (alpha, 0, ...).
template <class Real>
struct reflection {
  Real alpha = 0;
  Real tau = 0;
};

/// x (n) becomes v.
template <class Ops, class Real = typename Ops::real>
[[nodiscard]] reflection<Real> reflect(Real* x, std::size_t n) noexcept {
  const Real first = x[0];
  const Real rest = n > 1 ? Ops::dot(x + 1, x + 1, n - 1) : Real{0};
  x[0] = 1;
  if (!(rest > 0)) return {first, 0};
  const Real length = std::sqrt(first * first + rest);
  const Real alpha = first > 0 ? -length : length;
  const Real factor = 1 / (first - alpha);
  for (std::size_t j = 1; j < n; ++j) x[j] *= factor;
  return {alpha, (alpha - first) / alpha};
}

/// m (rows, c), rows > c -> R in its first c rows; the others hold nothing afterwards. `x` (rows)
/// and `y` (c) are scratch.
template <class Ops, class Real = typename Ops::real>
void triangularise(matrix_view<Real> m, Real* x, Real* y) noexcept {
  for (std::size_t k = 0; k < m.cols; ++k) {
    const std::size_t rows = m.rows - k, cols = m.cols - k - 1;
    for (std::size_t r = 0; r < rows; ++r) x[r] = m.row(k + r)[k];
    const auto h = reflect<Ops>(x, rows);
    m.row(k)[k] = h.alpha;
    const matrix_view<Real> right(m.row(k) + k + 1, rows, cols, m.stride);
    if (cols > 0 && h.tau != 0) {
      Ops::gemv_t(right, x, y);
      Ops::ger(-h.tau, x, y, right);
    }
    for (std::size_t c = 0; c < k; ++c) m.row(k)[c] = 0;
  }
}

}  // namespace crayon::blend
