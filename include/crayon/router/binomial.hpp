// SPDX-License-Identifier: MIT
// Binomial probabilities, and what they say about a risk that was counted.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include <crayon/core/config.hpp>

namespace crayon::router {
namespace detail {

/// log n! - log(sqrt(2 pi n) (n / e)^n)
[[nodiscard]] inline double stirling_error(double n) noexcept {
  if (n > 15) {
    const double s = 1 / (n * n);
    return (1.0 / 12 - (1.0 / 360 - (1.0 / 1260 - (1.0 / 1680 - s / 1188) * s) * s) * s) / n;
  }
  double factorial = 1;  // exact to 18!
  for (double i = 2; i <= n; ++i) factorial *= i;
  constexpr double log_root_two_pi = 0.91893853320467274178;
  return std::log(factorial) - (n + 0.5) * std::log(n) + n - log_root_two_pi;
}

/// x log(x / m) + m - x without cancellation where x is near m.
[[nodiscard]] inline double deviance(double x, double m) noexcept {
  if (std::abs(x - m) >= 0.1 * (x + m)) return x * std::log(x / m) + m - x;
  const double v = (x - m) / (x + m);
  double sum = (x - m) * v;
  double term = 2 * x * v;
  for (int j = 1; j < 1000; ++j) {
    term *= v * v;
    const double more = sum + term / (2 * j + 1);
    if (more == sum) break;
    sum = more;
  }
  return sum;
}

}  // namespace detail

/// P(Bin(n, p) = k), k <= n, 0 <= p <= 1, to about 14 digits for any n (saddle point expansion of
/// Loader 2000, "Fast and accurate computation of binomial probabilities").
[[nodiscard]] inline double binomial_pmf(std::size_t k, std::size_t n, double p) noexcept {
  CRAYON_ASSERT(k <= n && p >= 0 && p <= 1);
  const auto all = static_cast<double>(n), hits = static_cast<double>(k);
  const double misses = all - hits;
  if (p <= 0) return k == 0 ? 1 : 0;
  if (p >= 1) return k == n ? 1 : 0;
  if (k == 0) return std::exp(all * std::log1p(-p));
  if (k == n) return std::exp(all * std::log(p));
  const double exponent = detail::stirling_error(all) - detail::stirling_error(hits) -
                          detail::stirling_error(misses) - detail::deviance(hits, all * p) -
                          detail::deviance(misses, all * (1 - p));
  constexpr double two_pi = 6.28318530717958647693;
  return std::exp(exponent) * std::sqrt(all / (two_pi * hits * misses));
}

/// P(Bin(n, p) <= k): the smaller tail as a sum of falling terms, so that neither cancels.
[[nodiscard]] inline double binomial_cdf(std::size_t k, std::size_t n, double p) noexcept {
  CRAYON_ASSERT(p >= 0 && p <= 1);
  if (k >= n || p <= 0) return 1;
  if (p >= 1) return 0;
  const auto all = static_cast<double>(n);
  const double odds = p / (1 - p);
  const bool lower = static_cast<double>(k) < all * p;
  double i = static_cast<double>(lower ? k : k + 1);
  double term = binomial_pmf(lower ? k : k + 1, n, p);
  double sum = term;
  while (term > sum * std::numeric_limits<double>::epsilon() / 4) {
    if (lower) {
      if (i <= 0) break;
      term *= i / ((all - i + 1) * odds);
      --i;
    } else {
      if (i >= all) break;
      term *= (all - i) * odds / (i + 1);
      ++i;
    }
    sum += term;
  }
  return lower ? sum : 1 - sum;
}

/// The largest risk that `k` bad ones of `n` leave possible at confidence 1 - delta: the p with
/// P(Bin(n, p) <= k) = delta (Clopper, Pearson 1934, one-sided). 0 < delta < 1; of none it is 1.
[[nodiscard]] inline double clopper_pearson_upper(std::size_t k, std::size_t n,
                                                  double delta) noexcept {
  CRAYON_ASSERT(k <= n && delta > 0 && delta < 1);
  if (k == n) return 1;
  double low = static_cast<double>(k) / static_cast<double>(n), high = 1;
  if (k == 0) low = 0;
  for (;;) {
    const double middle = low + (high - low) / 2;
    if (!(middle > low && middle < high)) return high;
    (binomial_cdf(k, n, middle) > delta ? low : high) = middle;
  }
}

}  // namespace crayon::router
