// SPDX-License-Identifier: MIT
// Intervals by resampling rows. Paired: one draw of rows serves all routers that are compared.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/router/evaluate_ranking.hpp>

namespace crayon::router {

struct interval {
  double low = detail::undefined;
  double high = detail::undefined;
};

/// Draws as many rows as there are, with replacement; or, given a group per row (0 ... groups - 1),
/// whole groups, which is honest where the rows of a group resemble each other.
class row_resampler {
 public:
  row_resampler(std::size_t rows, std::uint64_t seed) : random_(seed), counts_(rows) {}
  row_resampler(std::vector<std::size_t> group, std::size_t groups, std::uint64_t seed)
      : random_(seed), counts_(group.size()), group_(std::move(group)), drawn_(groups) {}

  /// How often each row is in the next draw; valid until the one after it.
  [[nodiscard]] row_counts next() noexcept {
    if (group_.empty()) {
      draw(counts_);
    } else {
      draw(drawn_);
      for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] = drawn_[group_[i]];
    }
    return counts_;
  }

 private:
  void draw(std::vector<std::uint32_t>& counts) noexcept {
    std::fill(counts.begin(), counts.end(), 0);
    for (std::size_t i = 0; i < counts.size(); ++i) ++counts[random_.below(counts.size())];
  }

  rng random_;
  std::vector<std::uint32_t> counts_;
  std::vector<std::size_t> group_;
  std::vector<std::uint32_t> drawn_;
};

/// The middle `level` of the values of many draws (the percentile method, linear between order
/// statistics). Values that are not defined are left out; NaN where none is left.
[[nodiscard]] inline interval middle_of(std::vector<double> values, double level = 0.95) {
  std::erase_if(values, [](double v) { return std::isnan(v); });
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto quantile = [&](double q) {
    const double at = q * static_cast<double>(values.size() - 1);
    const auto low = static_cast<std::size_t>(at);
    const std::size_t high = std::min(low + 1, values.size() - 1);
    return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
  };
  return {quantile((1 - level) / 2), quantile((1 + level) / 2)};
}

}  // namespace crayon::router
