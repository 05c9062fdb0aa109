// SPDX-License-Identifier: MIT
// Scores -> probabilities that the device is right, and how far probabilities are off. Each map is
// fitted on other rows than those it is judged on. `right` has one flag per row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/router/evaluate_ranking.hpp>

namespace crayon::router {

/// Expected calibration error (Naeini et al. 2015; Guo et al. 2017): the mean, over bins of equal
/// width that are weighted by their rows, of |share of right rows - mean probability|. A bin has
/// its upper edge and not its lower; 0 is in the first.
[[nodiscard]] inline double expected_calibration_error(std::span<const double> probabilities,
                                                       row_flags right, std::size_t bins = 15,
                                                       row_counts counts = {}) {
  CRAYON_ASSERT(probabilities.size() == right.size() && bins > 0);
  std::vector<double> gap(bins);  // right - probability, summed
  double rows = 0, sum = 0;
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    const double edge = std::ceil(probabilities[i] * static_cast<double>(bins)) - 1;
    const auto bin = std::min(static_cast<std::size_t>(std::max(edge, 0.0)), bins - 1);
    const double count = detail::count_of(counts, i);
    gap[bin] += count * (right[i] - probabilities[i]);
    rows += count;
  }
  for (const double g : gap) sum += std::abs(g);
  return rows > 0 ? sum / rows : detail::undefined;
}

/// p = 1 / (1 + exp(-(slope x + offset))).
struct sigmoid_map {
  double slope = 1;
  double offset = 0;

  [[nodiscard]] double operator()(double x) const noexcept {
    return 1 / (1 + std::exp(-(slope * x + offset)));
  }
};

namespace detail {

[[nodiscard]] inline result<void> check_fit(std::span<const double> scores, row_flags right) {
  if (scores.size() != right.size() || scores.size() < 2) {
    return error{errc::bad_value, "calibration: " + std::to_string(scores.size()) + " scores and " +
                                      std::to_string(right.size()) + " outcomes; at least 2 rows"};
  }
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!std::isfinite(scores[i])) {
      return error{errc::bad_value,
                   "calibration: the score of row " + std::to_string(i) + " is not finite"};
    }
  }
  return {};
}

/// -log(1 / (1 + exp(-z))) without overflow.
[[nodiscard]] inline double log1p_exp_minus(double z) noexcept {
  return z > 0 ? std::log1p(std::exp(-z)) : -z + std::log1p(std::exp(z));
}

/// Cross-entropy of targets `t` under sigmoid(slope x + offset), minimised by damped Newton steps
/// (Lin, Lin, Weng 2007); slope only where `offset` is not free.
[[nodiscard]] inline sigmoid_map fit_sigmoid(std::span<const double> x, std::span<const double> t,
                                             sigmoid_map at, bool free_offset) {
  const auto loss = [&](const sigmoid_map& m) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double z = m.slope * x[i] + m.offset;
      sum += t[i] * log1p_exp_minus(z) + (1 - t[i]) * log1p_exp_minus(-z);
    }
    return sum;
  };
  double now = loss(at);
  for (int step = 0; step < 100; ++step) {
    double g1 = 0, g0 = 0, h11 = 1e-12, h10 = 0, h00 = 1e-12;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double p = at(x[i]), d = p - t[i], w = p * (1 - p);
      g1 += d * x[i];
      g0 += d;
      h11 += w * x[i] * x[i];
      h10 += w * x[i];
      h00 += w;
    }
    double d1 = -g1 / h11, d0 = 0;
    if (free_offset) {
      const double det = std::max(h11 * h00 - h10 * h10, 1e-300);
      d1 = -(h00 * g1 - h10 * g0) / det;
      d0 = -(h11 * g0 - h10 * g1) / det;
    }
    const double falls = g1 * d1 + g0 * d0;
    if (!(falls < -1e-14 * (1 + now))) break;
    double size = 1;
    sigmoid_map next = at;
    double then = now;
    for (; size > 1e-10; size /= 2) {
      next = {at.slope + size * d1, at.offset + size * d0};
      then = loss(next);
      if (then <= now + 1e-4 * size * falls) break;
    }
    if (!(then < now)) break;
    at = next;
    now = then;
  }
  return at;
}

}  // namespace detail

/// Platt scaling of scores of any range, with Platt's targets (R + 1)/(R + 2) and 1/(W + 2) for R
/// right and W wrong rows, which keep it finite where a score separates them. The same as
/// scikit-learn's method="sigmoid".
[[nodiscard]] inline result<sigmoid_map> fit_platt(std::span<const double> scores,
                                                   row_flags right) {
  CRAYON_CHECK(detail::check_fit(scores, right));
  const auto n = static_cast<double>(scores.size());
  const double good = std::accumulate(right.begin(), right.end(), 0.0);
  const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / n;
  double spread = 0;
  for (const double s : scores) spread += (s - mean) * (s - mean);
  spread = spread > 0 ? std::sqrt(spread / n) : 1;  // Newton's steps are then well scaled
  std::vector<double> x(scores.size()), t(scores.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = (scores[i] - mean) / spread;
    t[i] = right[i] != 0 ? (good + 1) / (good + 2) : 1 / (n - good + 2);
  }
  const auto made = detail::fit_sigmoid(x, t, {0, std::log((good + 1) / (n - good + 1))}, true);
  return sigmoid_map{made.slope / spread, made.offset - made.slope * mean / spread};
}

/// The logit of a probability, which is kept 1e-6 away from 0 and 1.
[[nodiscard]] inline double logit(double probability) noexcept {
  const double p = std::clamp(probability, 1e-6, 1 - 1e-6);
  return std::log(p / (1 - p));
}

/// Temperature scaling of probabilities (Guo et al. 2017, of the one event "right"): the T > 0 of
/// sigmoid(logit(p) / T) with the least cross-entropy, at most 1e6, which stands for chance.
[[nodiscard]] inline result<double> fit_temperature(std::span<const double> probabilities,
                                                    row_flags right) {
  CRAYON_CHECK(detail::check_fit(probabilities, right));
  std::vector<double> x(right.size()), t(right.begin(), right.end());
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!(probabilities[i] >= 0 && probabilities[i] <= 1)) {
      return error{errc::bad_value, "calibration: " + std::to_string(probabilities[i]) +
                                        " of row " + std::to_string(i) + " is not a probability"};
    }
    x[i] = logit(probabilities[i]);
  }
  return 1 / std::max(detail::fit_sigmoid(x, t, {1, 0}, false).slope, 1e-6);
}

/// A rising map, linear between its knots and constant outside.
struct isotonic_map {
  std::vector<double> x, y;

  [[nodiscard]] double operator()(double score) const noexcept {
    const auto high = std::lower_bound(x.begin(), x.end(), score) - x.begin();
    if (high == 0) return y.front();
    const auto at = static_cast<std::size_t>(high);
    if (at == x.size()) return y.back();
    const double part = (score - x[at - 1]) / (x[at] - x[at - 1]);
    return y[at - 1] + part * (y[at] - y[at - 1]);
  }
};

/// The rising map with the least squared error: pool adjacent violators, rows of one score taken
/// together. The same as scikit-learn's IsotonicRegression with out_of_bounds="clip".
[[nodiscard]] inline result<isotonic_map> fit_isotonic(std::span<const double> scores,
                                                       row_flags right) {
  CRAYON_CHECK(detail::check_fit(scores, right));
  CRAYON_TRY(const auto order, risk_order::of(scores));
  struct block {
    double first, last, rows, right;
  };
  std::vector<block> blocks;
  for (std::size_t s = order.steps(); s-- > 0;) {  // by rising score
    block b{order.risk(s), order.risk(s), 0, 0};
    for (const std::size_t row : order.step(s)) {
      b.rows += 1;
      b.right += right[row];
    }
    while (!blocks.empty() && blocks.back().right * b.rows >= b.right * blocks.back().rows) {
      b = {blocks.back().first, b.last, b.rows + blocks.back().rows, b.right + blocks.back().right};
      blocks.pop_back();
    }
    blocks.push_back(b);
  }
  isotonic_map made;
  for (const auto& b : blocks) {
    made.x.push_back(b.first);
    made.y.push_back(b.right / b.rows);
    if (b.last == b.first) continue;
    made.x.push_back(b.last);
    made.y.push_back(b.right / b.rows);
  }
  return made;
}

}  // namespace crayon::router
