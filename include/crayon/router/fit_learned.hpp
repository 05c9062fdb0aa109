// SPDX-License-Identifier: MIT
// Recorded signals and outcomes -> a learned policy. Its threshold is chosen on other data.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/core/view.hpp>
#include <crayon/router/learned.hpp>
#include <crayon/router/logistic.hpp>

namespace crayon::router {

/// What the device saw of a query that it answered, and whether it was wrong.
struct recorded_query {
  signals seen{};
  bool wrong = false;
};

namespace detail {

/// Means and deviations of signals over recorded queries, and each signal less its mean, over its
/// deviation: (queries, signals). A signal that never changes has the scale 0.
struct standard_signals {
  std::vector<double> mean, scale, rows;
};

[[nodiscard]] inline std::vector<float> values_of(std::span<const recorded_query> known,
                                                  std::span<const signal_kind> on) {
  std::vector<float> values;
  for (const auto& q : known) {
    for (const signal_kind which : on) values.push_back(value_of(q.seen, which));
  }
  return values;
}

/// `known` (queries, signals).
[[nodiscard]] inline result<standard_signals> standardise_signals(matrix_view<const float> known,
                                                                  std::span<const signal_kind> on) {
  if (known.rows == 0 || on.empty()) {
    return error{errc::bad_value, "learned router: " + std::to_string(known.rows) + " queries of " +
                                      std::to_string(on.size()) + " signals"};
  }
  CRAYON_ASSERT(known.cols == on.size());
  const std::size_t width = on.size();
  const auto count = static_cast<double>(known.rows);
  standard_signals made{std::vector<double>(width), std::vector<double>(width),
                        std::vector<double>(known.rows * width)};
  for (std::size_t j = 0; j < width; ++j) {
    double squares = 0;
    for (std::size_t i = 0; i < known.rows; ++i) {
      const float value = known.row(i)[j];
      if (!std::isfinite(value)) {
        return error{errc::bad_value, "learned router: " + std::string(name(on[j])) + " of query " +
                                          std::to_string(i) + " is not a finite number"};
      }
      made.rows[i * width + j] = double{value};
      made.mean[j] += double{value} / count;
    }
    for (std::size_t i = 0; i < known.rows; ++i) {
      double& x = made.rows[i * width + j];
      x -= made.mean[j];
      squares += x * x;
    }
    const double rounding = 1e-24 * made.mean[j] * made.mean[j] * count;
    made.scale[j] = squares > rounding ? 1 / std::sqrt(squares / count) : 0;
    for (std::size_t i = 0; i < known.rows; ++i) made.rows[i * width + j] *= made.scale[j];
  }
  return made;
}

}  // namespace detail

/// Logistic regression (`fit_logistic`) on standardised signals: scikit-learn's LogisticRegression
/// after StandardScaler, C = 1 / penalty. Errors: no queries or signals, a signal that is not
/// finite, a penalty that is not above 0, outcomes that are all the same. `known` (queries,
/// signals) has the signals' values, `wrong` (queries) a 1 where the device was wrong.
[[nodiscard]] inline result<linear> fit_linear(matrix_view<const float> known,
                                               std::span<const std::uint8_t> wrong,
                                               std::vector<signal_kind> on, double penalty = 1) {
  CRAYON_ASSERT(wrong.size() == known.rows);
  CRAYON_TRY(const auto x, detail::standardise_signals(known, on));
  std::size_t errors = 0;
  for (const std::uint8_t w : wrong) errors += w != 0;
  if (!(penalty > 0) || errors == 0 || errors == known.rows) {
    return error{errc::bad_value, "learned router: " + std::to_string(errors) + " of " +
                                      std::to_string(known.rows) +
                                      " answers are wrong, and the penalty is " +
                                      std::to_string(penalty) + "; needs both kinds, and above 0"};
  }
  const std::size_t width = on.size();
  const auto found =
      fit_logistic(matrix_view<const double>(x.rows.data(), known.rows, width), wrong, penalty);
  linear made{std::move(on), std::vector<double>(width), found.offset};
  for (std::size_t j = 0; j < width; ++j) {
    made.weight[j] = found.weight[j] * x.scale[j];
    made.bias -= made.weight[j] * x.mean[j];
  }
  return made;
}
[[nodiscard]] inline result<linear> fit_linear(std::span<const recorded_query> known,
                                               std::vector<signal_kind> on, double penalty = 1) {
  const std::vector<float> values = detail::values_of(known, on);
  std::vector<std::uint8_t> wrong;
  for (const auto& q : known) wrong.push_back(q.wrong);
  const matrix_view<const float> rows(values.data(), known.size(), on.size());
  return fit_linear(rows, wrong, std::move(on), penalty);
}

/// Errors: no queries or signals, more than all signals, a signal that is not finite, neighbours
/// that are not 1 to 64 or more than queries.
[[nodiscard]] inline result<nearest_outcomes> remember_outcomes(
    std::span<const recorded_query> known, std::vector<signal_kind> on, std::size_t neighbours) {
  const std::vector<float> values = detail::values_of(known, on);
  CRAYON_TRY(const auto x,
             detail::standardise_signals({values.data(), known.size(), on.size()}, on));
  if (on.size() > all_signals.size() || neighbours == 0 || neighbours > known.size() ||
      neighbours > nearest_outcomes::most_neighbours) {
    return error{errc::bad_value, "learned router: " + std::to_string(neighbours) +
                                      " neighbours of " + std::to_string(known.size()) +
                                      " queries and " + std::to_string(on.size()) + " signals"};
  }
  nearest_outcomes made;
  made.neighbours = neighbours;
  for (const auto& q : known) {
    made.wrong.push_back(q.wrong);
    for (std::size_t j = 0; j < on.size(); ++j) {
      made.known.push_back(static_cast<float>(x.scale[j]) * value_of(q.seen, on[j]));
    }
  }
  for (const double s : x.scale) made.scale.push_back(static_cast<float>(s));
  made.on = std::move(on);
  return made;
}

}  // namespace crayon::router
