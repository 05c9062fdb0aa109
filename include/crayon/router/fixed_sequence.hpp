// SPDX-License-Identifier: MIT
// A threshold whose risk is at most alpha with probability 1 - delta.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/router/binomial.hpp>
#include <crayon/router/promise.hpp>

namespace crayon::router {

/// `count` thresholds from `low` to `high`, evenly: a grid for `fixed_sequence`.
[[nodiscard]] inline std::vector<float> even_grid(float low, float high, std::size_t count) {
  std::vector<float> grid(count);
  const float step = count > 1 ? (high - low) / static_cast<float>(count - 1) : 0;
  for (std::size_t i = 0; i < count; ++i) grid[i] = low + step * static_cast<float>(i);
  return grid;
}

struct fixed_sequence_options {
  double alpha = 0.1;
  double delta = 0.1;
  risk_share share = risk_share::of_all;
  /// Where the walk through the grid begins, evenly spread, each at level delta / starts; 0: at the
  /// strictest threshold for `of_all`, 10 for `of_kept`, where the strictest keep too few to tell.
  std::size_t starts = 0;
};

/// Learn then Test (Angelopoulos, Bates, Candes, Jordan, Lei 2021) with fixed sequences: from
/// strict to loose, each threshold's hypothesis "its risk is above alpha" is rejected as long as
/// P(Bin(m, alpha) <= wrong answers kept) <= delta / starts, with m all queries (`of_all`) or those
/// kept (`of_kept`, given which they are independent too); that is, as long as the Clopper-Pearson
/// bound is at most alpha. The first that is not rejected ends the sequence. P(the risk of the
/// threshold that comes out <= alpha) >= 1 - delta, whichever way the risk changes along the grid.
/// The grid must be fixed beforehand: quantiles of the same calibration scores void the promise.
template <infeasible_policy WhenInfeasible = refuse>
class fixed_sequence {
 public:
  static constexpr promise_kind promises = promise_kind::with_confidence;
  static constexpr std::string_view name() noexcept { return "fixed_sequence"; }

  /// `grid`: risks, rising.
  explicit fixed_sequence(std::vector<float> grid, fixed_sequence_options options = {},
                          WhenInfeasible = {})
      : grid_(std::move(grid)), options_(options) {}

  /// Losses are 0 or 1. Errors: another loss, levels outside (0, 1), a grid that does not rise.
  [[nodiscard]] result<calibrated_threshold> fit(std::span<const float> risks,
                                                 std::span<const float> losses) const {
    CRAYON_CHECK(detail::check_level("alpha", options_.alpha));
    CRAYON_CHECK(detail::check_level("delta", options_.delta));
    CRAYON_CHECK(detail::check_calibration(risks, losses, true));
    CRAYON_CHECK(check_grid());

    struct counted {
      std::size_t kept = 0, wrong = 0;
    };
    std::vector<counted> at(grid_.size() + 1);  // by the first threshold that keeps it; last: none
    for (std::size_t i = 0; i < risks.size(); ++i) {
      const bool measured = risks[i] == risks[i];
      const auto first =
          measured ? std::lower_bound(grid_.begin(), grid_.end(), risks[i]) : grid_.end();
      counted& c = at[static_cast<std::size_t>(first - grid_.begin())];
      ++c.kept;
      c.wrong += losses[i] != 0;
    }
    for (std::size_t j = 1; j < grid_.size(); ++j) {
      at[j].kept += at[j - 1].kept;
      at[j].wrong += at[j - 1].wrong;
    }

    const bool all = options_.share == risk_share::of_all;
    const std::size_t starts = options_.starts != 0 ? options_.starts : all ? 1 : 10;
    const double level = options_.delta / static_cast<double>(starts);
    const auto rejected = [&](const counted& c) {
      return binomial_cdf(c.wrong, all ? risks.size() : c.kept, options_.alpha) <= level;
    };
    std::size_t passed = 0;  // one past the loosest that was rejected
    for (std::size_t s = 0; s < starts; ++s) {
      std::size_t j = s * grid_.size() / starts;
      while (j < grid_.size() && rejected(at[j])) ++j;
      if (j > s * grid_.size() / starts) passed = std::max(passed, j);
    }

    calibrated_threshold fitted;
    fitted.made = {promises, options_.share, options_.alpha, options_.delta, risks.size()};
    if (passed == 0) {
      return WhenInfeasible::instead(fitted.made,
                                     "no threshold of the grid has a risk of at most " +
                                         detail::short_number(options_.alpha) + " at confidence " +
                                         detail::short_number(1 - options_.delta) + " on " +
                                         std::to_string(risks.size()) + " calibration queries");
    }
    const counted& c = at[passed - 1];
    fitted.risk = grid_[passed - 1];
    const auto of = static_cast<double>(all ? risks.size() : c.kept);
    fitted.observed = of > 0 ? static_cast<double>(c.wrong) / of : 0;
    fitted.call_rate = 1 - static_cast<double>(c.kept) / static_cast<double>(risks.size());
    return fitted;
  }

 private:
  [[nodiscard]] result<void> check_grid() const {
    if (grid_.empty()) return error{errc::bad_value, "router calibration: the grid is empty"};
    for (std::size_t j = 0; j < grid_.size(); ++j) {
      if (!std::isfinite(grid_[j]) || (j > 0 && !(grid_[j] > grid_[j - 1]))) {
        return error{errc::bad_value,
                     "router calibration: threshold " + std::to_string(j) + " of the grid is " +
                         detail::short_number(double{grid_[j]}) + ", expected rising numbers"};
      }
    }
    return {};
  }

  std::vector<float> grid_;
  fixed_sequence_options options_;
};
static_assert(calibrator<fixed_sequence<>> && calibrator<fixed_sequence<all_to_server>>);

}  // namespace crayon::router
