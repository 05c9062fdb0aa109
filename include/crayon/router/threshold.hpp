// SPDX-License-Identifier: MIT
// Thresholds from calibration data. Calibration data is not the data that the result is reported
// on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <crayon/router/signals.hpp>

namespace crayon::router {

/// One calibration query: the risk that the policy saw, and who would have been right.
struct calibration_point {
  float risk = 0;  ///< larger is riskier: as_risk(value_of(seen, which), which)
  bool device_ok = false;
  bool server_ok = false;
};

/// A query goes to the server when its risk is above the threshold.
struct fitted_threshold {
  float risk = 0;       ///< as_risk(risk, which) is the threshold in the signal's own units
  float accuracy = 0;   ///< of the routed answers, on the calibration data
  float call_rate = 0;  ///< share sent to the server, on the calibration data
};

namespace detail {

/// Halfway to the next larger risk, so that neither calibration point lies on the edge.
[[nodiscard]] inline float between(float low, float high) noexcept {
  const float middle = low + (high - low) / 2;
  return middle < high ? middle : low;
}

template <class Points, class Risk>
[[nodiscard]] result<std::vector<std::size_t>> by_falling_risk(const Points& points, Risk risk) {
  if (points.empty()) return error{errc::bad_value, "router calibration: no points to fit on"};
  std::vector<std::size_t> order(points.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (!std::isfinite(risk(points[i]))) {
      return error{errc::bad_value, "router calibration: the risk of point " + std::to_string(i) +
                                        " is not a finite number"};
    }
    order[i] = i;
  }
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return risk(points[a]) > risk(points[b]); });
  return order;
}

}  // namespace detail

/// The threshold whose routed answers are right most often on these points; of equally good ones
/// that with the fewest calls. A maximum over the data it was chosen on is optimistic: measure
/// again on other data.
[[nodiscard]] inline result<fitted_threshold> fit_accuracy(
    std::span<const calibration_point> points) {
  CRAYON_TRY(const auto order,
             detail::by_falling_risk(points, [](const auto& p) { return p.risk; }));
  std::size_t right = 0;  // with everything on the device
  for (const auto& point : points) right += point.device_ok;
  std::size_t best_right = right, best_calls = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto& point = points[order[i]];
    right = right + point.server_ok - point.device_ok;
    const bool edge = i + 1 == order.size() || points[order[i + 1]].risk < point.risk;
    if (edge && right > best_right) {
      best_right = right;
      best_calls = i + 1;
    }
  }
  const auto count = static_cast<float>(points.size());
  fitted_threshold fitted;
  fitted.accuracy = static_cast<float>(best_right) / count;
  fitted.call_rate = static_cast<float>(best_calls) / count;
  if (best_calls == 0) {
    fitted.risk = points[order.front()].risk;
  } else if (best_calls == order.size()) {
    fitted.risk =
        std::nextafter(points[order.back()].risk, -std::numeric_limits<float>::infinity());
  } else {
    fitted.risk =
        detail::between(points[order[best_calls]].risk, points[order[best_calls - 1]].risk);
  }
  return fitted;
}

/// The threshold that sends as many of these queries as it can without sending more than `rate` of
/// them (0 to 1). Queries of equal risk go together. The accuracy is not known and stays NaN.
[[nodiscard]] inline result<fitted_threshold> fit_call_rate(std::span<const float> risks,
                                                            float rate) {
  if (!(rate >= 0 && rate <= 1)) {
    return error{errc::bad_value,
                 "router calibration: call rate " + std::to_string(rate) + " is not in [0, 1]"};
  }
  CRAYON_TRY(const auto order, detail::by_falling_risk(risks, [](float risk) { return risk; }));
  auto calls = static_cast<std::size_t>(rate * static_cast<float>(order.size()));
  fitted_threshold fitted;
  fitted.accuracy = not_measured;
  if (calls == order.size()) {
    fitted.risk = std::nextafter(risks[order.back()], -std::numeric_limits<float>::infinity());
  } else {
    // The riskiest query that must stay, and all that are as risky, stay.
    const float stays = risks[order[calls]];
    while (calls > 0 && !(risks[order[calls - 1]] > stays)) --calls;
    fitted.risk = calls == 0 ? stays : detail::between(stays, risks[order[calls - 1]]);
  }
  fitted.call_rate = static_cast<float>(calls) / static_cast<float>(order.size());
  return fitted;
}

}  // namespace crayon::router
