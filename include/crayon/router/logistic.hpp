// SPDX-License-Identifier: MIT
// Logistic regression: the log-odds of an outcome as a line through features.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <crayon/core/config.hpp>
#include <crayon/core/view.hpp>

namespace crayon::router {
namespace detail {

/// Solves H x = g for a symmetric positive definite H (n, n), by Cholesky in place; x is in g.
inline void solve_cholesky(std::vector<double>& h, std::vector<double>& g) noexcept {
  const std::size_t n = g.size();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = h[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= h[i * n + k] * h[j * n + k];
      h[i * n + j] = i == j ? std::sqrt(sum) : sum / h[j * n + j];
    }
    for (std::size_t k = 0; k < i; ++k) g[i] -= h[i * n + k] * g[k];
    g[i] /= h[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) g[i] -= h[k * n + i] * g[k];
    g[i] /= h[i * n + i];
  }
}

}  // namespace detail

/// log-odds = offset + sum_j weight_j x_j
struct logistic {
  std::vector<double> weight;
  double offset = 0;

  template <class T>
  [[nodiscard]] double operator()(const T* x) const noexcept {
    double score = offset;
    for (std::size_t j = 0; j < weight.size(); ++j) score += weight[j] * static_cast<double>(x[j]);
    return score;
  }
};

/// Minimises sum_i cross-entropy(y_i) + penalty |w|^2 / 2 with a free offset, by Newton's method:
/// x (rows, features) finite, y (rows) 0 or 1, penalty above 0. What scikit-learn's
/// LogisticRegression finds with C = 1 / penalty. Where all y are the same the offset ends at some
/// large number. rows features^2 multiplications a step, of which there are about ten.
template <class T>
[[nodiscard]] logistic fit_logistic(matrix_view<const T> x, std::span<const std::uint8_t> y,
                                    double penalty) {
  CRAYON_ASSERT(y.size() == x.rows && x.rows > 0 && penalty > 0);
  const std::size_t width = x.cols, n = width + 1;
  std::vector<double> g(n), h(n * n), row(n, 1);
  logistic now{std::vector<double>(width)};
  // The loss is convex; a step that does not lower it is halved.
  const auto loss_of = [&](const logistic& at) {
    double sum = 0;
    for (const double w : at.weight) sum += penalty / 2 * w * w;
    for (std::size_t i = 0; i < x.rows; ++i) {
      const double score = at(x.row(i));
      sum +=
          std::log1p(std::exp(-std::abs(score))) + std::max(score, 0.0) - (y[i] != 0 ? score : 0);
    }
    return sum;
  };
  double loss = loss_of(now);
  for (int step = 0; step < 100; ++step) {
    std::fill(h.begin(), h.end(), 0.0);
    for (std::size_t j = 0; j < width; ++j) {
      g[j] = penalty * now.weight[j];
      h[j * n + j] = penalty;
    }
    g[width] = 0;
    h[width * n + width] = 1e-12;
    for (std::size_t i = 0; i < x.rows; ++i) {
      for (std::size_t j = 0; j < width; ++j) row[j] = static_cast<double>(x.row(i)[j]);
      const double p = 1 / (1 + std::exp(-now(x.row(i))));
      for (std::size_t a = 0; a < n; ++a) {
        g[a] += (p - (y[i] != 0 ? 1 : 0)) * row[a];
        const double scaled = p * (1 - p) * row[a];
        if (scaled == 0) continue;  // most hashed words are not in a text
        double* to = h.data() + a * n;
        for (std::size_t b = 0; b <= a; ++b) to[b] += scaled * row[b];
      }
    }
    detail::solve_cholesky(h, g);
    double size = 1, lower = loss;
    logistic next;
    for (int halving = 0; halving < 30; ++halving, size /= 2) {
      next = now;
      for (std::size_t j = 0; j < width; ++j) next.weight[j] -= size * g[j];
      next.offset -= size * g[width];
      lower = loss_of(next);
      if (lower <= loss) break;
    }
    if (!(lower < loss - 1e-14 * std::abs(loss))) break;
    now = std::move(next);
    loss = lower;
  }
  return now;
}

}  // namespace crayon::router
