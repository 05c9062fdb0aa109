// SPDX-License-Identifier: MIT
// Risks learned from recorded outcomes: a line through signals, and their nearest neighbours.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <crayon/router/decision.hpp>

namespace crayon::router {

/// One of the signals cannot be there yet: a policy on them says nothing until the first token.
[[nodiscard]] constexpr bool too_early(std::span<const signal_kind> on,
                                       const signals& seen) noexcept {
  if (seen.tokens != 0) return false;
  for (const signal_kind which : on) {
    if (needs_tokens(which)) return true;
  }
  return false;
}

/// P(the device's answer is wrong) = 1 / (1 + exp(-(bias + sum_j weight_j signal_j))), in the
/// signals' own units (`fit_linear`). Above `threshold`, or where a signal was not measured: to the
/// server.
struct linear {
  std::vector<signal_kind> on;
  std::vector<double> weight;  ///< as many
  double bias = 0;
  float threshold = 0.5F;

  [[nodiscard]] float risk(const signals& seen) const noexcept {
    return risk_of([&](std::size_t j) { return value_of(seen, on[j]); });
  }
  /// Of the signals' values, in their order.
  [[nodiscard]] float risk(std::span<const float> values) const noexcept {
    CRAYON_ASSERT(values.size() == on.size());
    return risk_of([&](std::size_t j) { return values[j]; });
  }
  [[nodiscard]] route decide(const signals& seen) const noexcept {
    if (too_early(on, seen)) return route::device;
    return risk(seen) <= threshold ? route::device : route::server;
  }
  [[nodiscard]] decision explain(const signals& seen, route) const noexcept {
    if (too_early(on, seen)) return {};
    return {decide(seen), "linear", risk(seen), threshold};
  }

 private:
  /// NaN where a value is not finite: an infinite one would be a certainty.
  [[nodiscard]] float risk_of(auto&& value) const noexcept {
    double score = bias;
    for (std::size_t j = 0; j < on.size(); ++j) {
      const float x = value(j);
      if (!std::isfinite(x)) return not_measured;
      score += weight[j] * double{x};
    }
    return static_cast<float>(1 / (1 + std::exp(-score)));
  }
};
static_assert(explaining_policy<linear>);

/// A threshold with a promise on the risk of a line, which was fitted to other queries than the
/// threshold: as `bounded_risk` is on one signal. The line's own threshold is not looked at.
struct bounded_line {
  calibrated_threshold at;
  linear line;
  seen_at when = seen_at::after_answer;

  /// Silent where it is not asked: after its one decision, and before there is an answer.
  [[nodiscard]] bool speaks(const signals& seen) const noexcept {
    if (when == seen_at::after_prefill) return seen.asked == 0;
    return seen.tokens != 0 || seen.asked != 0;
  }
  [[nodiscard]] route decide(const signals& seen) const noexcept {
    return !speaks(seen) || at.keeps(line.risk(seen)) ? route::device : route::server;
  }
  [[nodiscard]] decision explain(const signals& seen, route) const noexcept {
    if (!speaks(seen)) return {};
    return {decide(seen), "linear", line.risk(seen), at.risk, at.made, when};
  }
};
static_assert(explaining_policy<bounded_line>);

/// The share of wrong answers among the `neighbours` recorded queries whose signals, each divided
/// by its deviation, are the nearest (Euclid; of equally near ones the first). Above `threshold`,
/// or where a signal was not measured: to the server. Made by `remember_outcomes`.
struct nearest_outcomes {
  static constexpr std::size_t most_neighbours = 64;

  std::vector<signal_kind> on;
  std::vector<float> scale;         ///< one over the deviation, per signal
  std::vector<float> known;         ///< (queries, signals), scaled
  std::vector<std::uint8_t> wrong;  ///< (queries)
  std::size_t neighbours = 16;      ///< 1 to 64, at most the number of queries
  float threshold = 0.5F;

  [[nodiscard]] float risk(const signals& seen) const noexcept {
    CRAYON_ASSERT(neighbours >= 1 && neighbours <= most_neighbours && neighbours <= wrong.size());
    std::array<float, all_signals.size()> query{};
    const std::size_t width = on.size();
    float finite = 0;
    for (std::size_t j = 0; j < width; ++j) finite += query[j] = scale[j] * value_of(seen, on[j]);
    if (!std::isfinite(finite)) return not_measured;
    std::array<float, most_neighbours> distance{};
    std::array<std::uint8_t, most_neighbours> outcome{};
    std::size_t count = 0;
    for (std::size_t i = 0; i < wrong.size(); ++i) {
      float d = 0;
      for (std::size_t j = 0; j < width; ++j) {
        d += (query[j] - known[i * width + j]) * (query[j] - known[i * width + j]);
      }
      if (count == neighbours && !(d < distance[count - 1])) continue;
      std::size_t at = count < neighbours ? count++ : count - 1;
      for (; at > 0 && distance[at - 1] > d; --at) {
        distance[at] = distance[at - 1];
        outcome[at] = outcome[at - 1];
      }
      distance[at] = d;
      outcome[at] = wrong[i];
    }
    std::size_t errors = 0;
    for (std::size_t i = 0; i < count; ++i) errors += outcome[i];
    return static_cast<float>(errors) / static_cast<float>(count);
  }
  [[nodiscard]] route decide(const signals& seen) const noexcept {
    if (too_early(on, seen)) return route::device;
    return risk(seen) <= threshold ? route::device : route::server;
  }
  [[nodiscard]] decision explain(const signals& seen, route) const noexcept {
    if (too_early(on, seen)) return {};
    return {decide(seen), "nearest_outcomes", risk(seen), threshold};
  }
};
static_assert(explaining_policy<nearest_outcomes>);

}  // namespace crayon::router
