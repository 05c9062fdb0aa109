// SPDX-License-Identifier: MIT
// What a router buys: quality against the calls, or the cost, of the server.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <crayon/router/evaluate_ranking.hpp>

namespace crayon::router {

/// Who would have been right on each row, and what each way costs. No costs: 0 on the device, 1 for
/// a call, so that the cost is the call rate. A late hand-over has the device's part in its cost.
struct routing_outcomes {
  row_flags device_ok;
  row_flags server_ok;
  std::span<const double> device_cost;
  std::span<const double> server_cost;
};

/// The rows of risk `risk` and above go to the server. Means over all rows.
struct curve_point {
  double risk = 0;  ///< +infinity: nothing is sent
  double call_rate = 0;
  double quality = 0;  ///< share of right answers
  double cost = 0;
};

namespace detail {

[[nodiscard]] inline double cost_of(std::span<const double> costs, std::size_t row,
                                    double otherwise) noexcept {
  return costs.empty() ? otherwise : costs[row];
}

struct row_sums {
  double rows = 0, calls = 0, right = 0, cost = 0;

  void add(const routing_outcomes& seen, std::size_t row, bool sent, double count) noexcept {
    rows += count;
    calls += sent ? count : 0;
    right += count * (sent ? seen.server_ok[row] : seen.device_ok[row]);
    cost += count * (sent ? cost_of(seen.server_cost, row, 1) : cost_of(seen.device_cost, row, 0));
  }
  [[nodiscard]] curve_point point(double threshold) const noexcept {
    if (!(rows > 0)) return {threshold, undefined, undefined, undefined};
    return {threshold, calls / rows, right / rows, cost / rows};
  }
};

}  // namespace detail

/// From everything on the device to everything on the server, one point per step of the order.
/// Between two points lie the routers that send a random part of the step's rows.
[[nodiscard]] inline std::vector<curve_point> cost_quality_curve(const risk_order& order,
                                                                 const routing_outcomes& seen,
                                                                 row_counts counts = {}) {
  CRAYON_ASSERT(seen.device_ok.size() == order.rows() && seen.server_ok.size() == order.rows());
  detail::row_sums all;
  for (std::size_t row = 0; row < order.rows(); ++row) {
    const double count = detail::count_of(counts, row);
    all.rows += count;
    all.right += count * seen.device_ok[row];
    all.cost += count * detail::cost_of(seen.device_cost, row, 0);
  }
  std::vector<curve_point> curve;
  curve.reserve(order.steps() + 1);
  curve.push_back(
      {std::numeric_limits<double>::infinity(), 0, all.right / all.rows, all.cost / all.rows});
  double calls = 0;
  for (std::size_t s = 0; s < order.steps(); ++s) {
    const double before = calls;
    for (const std::size_t row : order.step(s)) {
      const double count = detail::count_of(counts, row);
      calls += count;
      all.right += count * (seen.server_ok[row] - seen.device_ok[row]);
      all.cost += count * (detail::cost_of(seen.server_cost, row, 1) -
                           detail::cost_of(seen.device_cost, row, 0));
    }
    if (calls > before) {
      curve.push_back({order.risk(s), calls / all.rows, all.right / all.rows, all.cost / all.rows});
    }
  }
  return curve;
}

/// Average performance gap recovered (RouteLLM, Ong et al. 2024): with PGR(c) = (quality at call
/// rate c - device's) / (server's - device's), the mean of PGR over c in [0, 1]. Here the integral
/// of the whole curve instead of a mean over ten points. 0.5 is random; a router above both models
/// may exceed 1. NaN where the server is not better than the device: there is no gap to recover.
[[nodiscard]] inline double apgr(std::span<const curve_point> curve) noexcept {
  CRAYON_ASSERT(!curve.empty());
  const double weak = curve.front().quality, gap = curve.back().quality - weak;
  if (!(gap > 0)) return detail::undefined;
  double area = 0;
  for (std::size_t i = 1; i < curve.size(); ++i) {
    area += (curve[i].call_rate - curve[i - 1].call_rate) *
            ((curve[i].quality + curve[i - 1].quality) / 2 - weak);
  }
  return area / gap;
}

/// Call-performance threshold (RouteLLM): the smallest call rate that recovers `share` of the gap;
/// CPT50 is share 0.5. Linear between points. NaN where the server is not better than the device.
[[nodiscard]] inline double calls_to_recover(std::span<const curve_point> curve,
                                             double share) noexcept {
  CRAYON_ASSERT(!curve.empty());
  const double weak = curve.front().quality, gap = curve.back().quality - weak;
  if (!(gap > 0)) return detail::undefined;
  const double target = weak + share * gap;
  if (target <= weak) return 0;
  for (std::size_t i = 1; i < curve.size(); ++i) {
    const auto &low = curve[i - 1], &high = curve[i];
    if (high.quality >= target) {
      const double part = (target - low.quality) / (high.quality - low.quality);
      return low.call_rate + part * (high.call_rate - low.call_rate);
    }
  }
  return 1;  // the last point is the target, but for rounding
}

/// What a threshold does to the rows of each group (numbers from 0, one per row): rows above it go
/// to the server. A group without rows: NaN.
[[nodiscard]] inline std::vector<curve_point> route_groups(std::span<const double> risks,
                                                           double threshold,
                                                           const routing_outcomes& seen,
                                                           std::span<const std::size_t> group,
                                                           std::size_t groups) {
  std::vector<detail::row_sums> all(groups);
  for (std::size_t row = 0; row < risks.size(); ++row) {
    CRAYON_ASSERT(group[row] < groups);
    all[group[row]].add(seen, row, risks[row] > threshold, 1);
  }
  std::vector<curve_point> points;
  for (const auto& sums : all) points.push_back(sums.point(threshold));
  return points;
}

/// The same of all rows.
[[nodiscard]] inline curve_point route_rows(std::span<const double> risks, double threshold,
                                            const routing_outcomes& seen,
                                            row_counts counts = {}) noexcept {
  detail::row_sums all;
  for (std::size_t row = 0; row < risks.size(); ++row) {
    all.add(seen, row, risks[row] > threshold, detail::count_of(counts, row));
  }
  return all.point(threshold);
}

}  // namespace crayon::router
