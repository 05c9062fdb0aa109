// SPDX-License-Identifier: MIT
// A router's report card: every metric of one score with its interval, several scores on the same
// draws of rows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/core/function_ref.hpp>
#include <crayon/router/evaluate_bootstrap.hpp>
#include <crayon/router/evaluate_calibration.hpp>
#include <crayon/router/evaluate_cost.hpp>

namespace crayon::router {

enum class router_metric : std::uint8_t {
  apgr,             ///< of the quality curve
  cpt50,            ///< call rate that recovers half of the gap
  cpt80,            ///< and 80 % of it
  auroc,            ///< of the device's errors
  augrc,            ///< smaller is better
  near_auroc,       ///< near out-of-scope against in-scope queries
  near_fpr95,       ///< in-scope queries sent when 95 % of the near ones are
  far_auroc,        ///< the same for far out-of-scope queries
  far_fpr95,        ///< the same
  ece,              ///< of the score itself, where it is a probability
  ece_isotonic,     ///< after the map
  ece_platt,        ///< the same
  ece_temperature,  ///< the same
};
inline constexpr std::size_t router_metrics = 13;

[[nodiscard]] constexpr std::string_view name(router_metric which) noexcept {
  constexpr std::array<std::string_view, router_metrics> names{
      "apgr",         "cpt50",      "cpt80",          "auroc",     "augrc",
      "near_auroc",   "near_fpr95", "far_auroc",      "far_fpr95", "ece",
      "ece_isotonic", "ece_platt",  "ece_temperature"};
  return names[static_cast<std::size_t>(which)];
}

/// NaN: not defined here.
using metric_values = std::array<double, router_metrics>;

/// The rows that routers are judged on. `near` and `far` flag out-of-scope queries, the others are
/// in scope; both empty: nothing is known about the scope.
struct judged_rows {
  routing_outcomes seen;
  row_flags near, far;
};

/// A score on those rows. Probabilities that the device is right, for the ECE: of the score itself
/// and after each map, which was fitted on other rows; empty: not known.
struct judged_score {
  risk_order order;
  std::vector<double> raw, isotonic, platt, temperature;
};

/// All metrics of one score, with rows counted as often as `counts` says.
[[nodiscard]] inline metric_values measure(const judged_score& score, const judged_rows& rows,
                                           row_counts counts = {}) {
  metric_values all;
  all.fill(detail::undefined);
  const auto set = [&](router_metric which, double value) {
    all[static_cast<std::size_t>(which)] = value;
  };
  const auto curve = cost_quality_curve(score.order, rows.seen, counts);
  set(router_metric::apgr, apgr(curve));
  set(router_metric::cpt50, calls_to_recover(curve, 0.5));
  set(router_metric::cpt80, calls_to_recover(curve, 0.8));
  std::vector<std::uint8_t> flags(score.order.rows());
  for (std::size_t i = 0; i < flags.size(); ++i) flags[i] = rows.seen.device_ok[i] == 0;
  set(router_metric::auroc, auroc(score.order, flags, counts));
  set(router_metric::augrc, augrc(score.order, flags, counts));
  const auto scope = [&](row_flags out, row_flags other, router_metric area, router_metric rate) {
    if (out.empty() || other.empty()) return;
    for (std::size_t i = 0; i < flags.size(); ++i) flags[i] = other[i] == 0;
    set(area, auroc(score.order, out, counts, flags));
    set(rate, false_positives_at(score.order, out, 0.95, counts, flags));
  };
  scope(rows.near, rows.far, router_metric::near_auroc, router_metric::near_fpr95);
  scope(rows.far, rows.near, router_metric::far_auroc, router_metric::far_fpr95);
  const auto calibration = [&](const std::vector<double>& p, router_metric which) {
    if (!p.empty()) set(which, expected_calibration_error(p, rows.seen.device_ok, 15, counts));
  };
  calibration(score.raw, router_metric::ece);
  calibration(score.isotonic, router_metric::ece_isotonic);
  calibration(score.platt, router_metric::ece_platt);
  calibration(score.temperature, router_metric::ece_temperature);
  return all;
}

/// A score's metrics, and their values in every draw of a bootstrap.
struct evaluation {
  metric_values value;
  std::array<std::vector<double>, router_metrics> drawn;

  [[nodiscard]] double operator[](router_metric which) const noexcept {
    return value[static_cast<std::size_t>(which)];
  }
  [[nodiscard]] interval middle(router_metric which, double level = 0.95) const {
    return middle_of(drawn[static_cast<std::size_t>(which)], level);
  }
  /// Of this score's value minus the other's, draw by draw; both come from one call of `evaluate`.
  [[nodiscard]] interval difference(const evaluation& other, router_metric which,
                                    double level = 0.95) const {
    std::vector<double> d = drawn[static_cast<std::size_t>(which)];
    const auto& from = other.drawn[static_cast<std::size_t>(which)];
    for (std::size_t i = 0; i < d.size(); ++i) d[i] -= from[i];
    return middle_of(std::move(d), level);
  }
};

/// One evaluation per score. `after(d)` is called after each of the `draws`.
[[nodiscard]] inline std::vector<evaluation> evaluate(std::span<const judged_score> scores,
                                                      const judged_rows& rows,
                                                      row_resampler resampler, std::size_t draws,
                                                      function_ref<void(std::size_t)> after) {
  std::vector<evaluation> all;
  for (const auto& score : scores) all.push_back({measure(score, rows), {}});
  for (std::size_t d = 0; d < draws; ++d) {
    const auto counts = resampler.next();
    for (std::size_t s = 0; s < scores.size(); ++s) {
      const auto seen = measure(scores[s], rows, counts);
      for (std::size_t m = 0; m < seen.size(); ++m) all[s].drawn[m].push_back(seen[m]);
    }
    after(d);
  }
  return all;
}

}  // namespace crayon::router
