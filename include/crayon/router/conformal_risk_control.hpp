// SPDX-License-Identifier: MIT
// A threshold whose risk is at most alpha in the mean.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/router/promise.hpp>
#include <crayon/router/threshold.hpp>

namespace crayon::router {

/// Conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster 2022, theorem 1) of the share
/// `of_all`: a query's loss is that of the device's answer where it is kept, else 0. It only grows
/// with the threshold, which the theorem needs; the selective risk does not, and has no such
/// promise. With losses in [0, 1] the threshold is the largest with
///   (sum of the losses that are kept + 1) / (n + 1) <= alpha,
/// and E[loss of the next query] <= alpha, the mean over calibration sets too: for one set the risk
/// is above alpha about every second time. No threshold can promise anything iff alpha < 1 / (n +
/// 1).
template <infeasible_policy WhenInfeasible = refuse>
class conformal_risk_control {
 public:
  static constexpr promise_kind promises = promise_kind::mean;
  static constexpr std::string_view name() noexcept { return "conformal_risk_control"; }

  constexpr explicit conformal_risk_control(double alpha, WhenInfeasible = {}) noexcept
      : alpha_(alpha) {}

  /// Halfway between the last risk that is kept and the next one; at most the largest risk seen.
  /// Losses from 0 to 1. Errors: an alpha or a loss outside its range, other sizes.
  [[nodiscard]] result<calibrated_threshold> fit(std::span<const float> risks,
                                                 std::span<const float> losses) const {
    CRAYON_CHECK(detail::check_level("alpha", alpha_));
    CRAYON_CHECK(detail::check_calibration(risks, losses, false));
    const auto n = static_cast<double>(risks.size());
    calibrated_threshold fitted;
    fitted.made = {promises, risk_share::of_all, alpha_, 0, risks.size()};
    // Quotients of whole numbers are rounded as decimals are: 29 / 100 is what 0.29 is.
    if (1 / (n + 1) > alpha_) {
      return WhenInfeasible::instead(
          fitted.made, "no threshold can promise a mean risk of at most " +
                           detail::short_number(alpha_) + " from " + std::to_string(risks.size()) +
                           " calibration queries: it takes " +
                           detail::short_number(std::ceil(1 / alpha_) - 1));
    }
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < risks.size(); ++i) {
      if (std::isfinite(risks[i])) order.push_back(i);
    }
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return risks[a] < risks[b]; });
    double lost = 0;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < order.size();) {
      const float risk = risks[order[i]];
      double with = lost;
      std::size_t end = i;
      for (; end < order.size() && risks[order[end]] == risk; ++end) {
        with += double{losses[order[end]]};
      }
      if ((with + 1) / (n + 1) > alpha_) {
        fitted.risk = kept == 0 ? std::nextafter(risk, calibrated_threshold::keeps_none)
                                : detail::between(fitted.risk, risk);
        break;
      }
      fitted.risk = risk;
      lost = with;
      kept = i = end;
    }
    if (!risks.empty()) {
      fitted.observed = lost / n;
      fitted.call_rate = 1 - static_cast<double>(kept) / n;
    }
    return fitted;
  }

 private:
  double alpha_;
};
static_assert(calibrator<conformal_risk_control<>>);
static_assert(calibrator<conformal_risk_control<all_to_server>>);

}  // namespace crayon::router
