// SPDX-License-Identifier: MIT
// How well a risk puts the queries in order: AUROC, FPR at a detection rate, AUGRC.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <crayon/core/result.hpp>

namespace crayon::router {

/// How often each row counts, as a bootstrap draws it. Empty: once each.
using row_counts = std::span<const std::uint32_t>;

/// One flag per row: the device was wrong, the query is out of scope, ...
using row_flags = std::span<const std::uint8_t>;

/// Rows by falling risk; rows of equal risk are one step, because no threshold separates them. Made
/// once, and then used for every metric and every draw of a bootstrap.
class risk_order {
 public:
  /// Refuses no rows and risks that are not finite.
  [[nodiscard]] static result<risk_order> of(std::span<const double> risks) {
    if (risks.empty()) return error{errc::bad_value, "evaluation: no rows"};
    for (std::size_t i = 0; i < risks.size(); ++i) {
      if (!std::isfinite(risks[i])) {
        return error{errc::bad_value,
                     "evaluation: the risk of row " + std::to_string(i) + " is not finite"};
      }
    }
    risk_order made;
    made.rows_.resize(risks.size());
    std::iota(made.rows_.begin(), made.rows_.end(), std::size_t{0});
    std::sort(made.rows_.begin(), made.rows_.end(), [&](std::size_t a, std::size_t b) {
      return risks[a] != risks[b] ? risks[a] > risks[b] : a < b;
    });
    for (std::size_t i = 1; i <= risks.size(); ++i) {
      const double last = risks[made.rows_[i - 1]];
      if (i < risks.size() && risks[made.rows_[i]] == last) continue;
      made.ends_.push_back(i);
      made.risks_.push_back(last);
    }
    return made;
  }

  [[nodiscard]] std::size_t rows() const noexcept { return rows_.size(); }
  [[nodiscard]] std::size_t steps() const noexcept { return ends_.size(); }
  /// The risk of the rows of step `s`.
  [[nodiscard]] double risk(std::size_t s) const noexcept { return risks_[s]; }
  /// The rows of step `s`.
  [[nodiscard]] std::span<const std::size_t> step(std::size_t s) const noexcept {
    const std::size_t from = s == 0 ? 0 : ends_[s - 1];
    return {rows_.data() + from, ends_[s] - from};
  }

 private:
  std::vector<std::size_t> rows_, ends_;
  std::vector<double> risks_;
};

namespace detail {

inline constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

[[nodiscard]] inline double count_of(row_counts counts, std::size_t row) noexcept {
  return counts.empty() ? 1.0 : static_cast<double>(counts[row]);
}

struct class_counts {
  double positive = 0, negative = 0;
};

/// `keep`, where it is not empty, leaves rows out.
[[nodiscard]] inline class_counts count_classes(std::span<const std::size_t> rows,
                                                row_flags positive, row_counts counts,
                                                row_flags keep) noexcept {
  class_counts seen;
  for (const std::size_t row : rows) {
    if (!keep.empty() && keep[row] == 0) continue;
    (positive[row] != 0 ? seen.positive : seen.negative) += count_of(counts, row);
  }
  return seen;
}

}  // namespace detail

/// The probability that a positive row has a larger risk than a negative one, ties counting half
/// (Mann-Whitney). NaN where one of the classes is empty. `keep`, where given, leaves rows out.
[[nodiscard]] inline double auroc(const risk_order& order, row_flags positive,
                                  row_counts counts = {}, row_flags keep = {}) noexcept {
  CRAYON_ASSERT(positive.size() == order.rows());
  double above = 0, pairs = 0, negatives = 0;
  for (std::size_t s = 0; s < order.steps(); ++s) {
    const auto here = detail::count_classes(order.step(s), positive, counts, keep);
    pairs += here.negative * (above + here.positive / 2);
    above += here.positive;
    negatives += here.negative;
  }
  return above > 0 && negatives > 0 ? pairs / (above * negatives) : detail::undefined;
}

/// Among the thresholds that catch at least `rate` of the positives, the smallest share of
/// negatives that are caught with them. With out-of-scope queries as positives and rate 0.95 this
/// is FPR95 as in Hendrycks et al. 2019 (Outlier Exposure): the share of in-scope queries that go
/// to the server needlessly. NaN where one of the classes is empty.
[[nodiscard]] inline double false_positives_at(const risk_order& order, row_flags positive,
                                               double rate = 0.95, row_counts counts = {},
                                               row_flags keep = {}) noexcept {
  CRAYON_ASSERT(positive.size() == order.rows());
  detail::class_counts all;
  for (std::size_t s = 0; s < order.steps(); ++s) {
    const auto here = detail::count_classes(order.step(s), positive, counts, keep);
    all.positive += here.positive;
    all.negative += here.negative;
  }
  if (!(all.positive > 0 && all.negative > 0)) return detail::undefined;
  detail::class_counts caught;
  for (std::size_t s = 0; s < order.steps(); ++s) {
    const auto here = detail::count_classes(order.step(s), positive, counts, keep);
    caught.positive += here.positive;
    caught.negative += here.negative;
    if (caught.positive >= rate * all.positive) break;
  }
  return caught.negative / all.negative;
}

/// Area under the generalized risk-coverage curve (Traub et al. 2024, "Overcoming Common Flaws in
/// the Evaluation of Selective Classification Systems"): the mean, over all coverages, of the
/// probability that a query is both kept on the device and answered wrongly. 0 is best; e^2/2 is a
/// perfect order at error rate e, e/2 a random one. Linear between steps, so that with m errors
/// among n rows it equals (1 - AUROC) m (n - m) / n^2 + m^2 / (2 n^2).
[[nodiscard]] inline double augrc(const risk_order& order, row_flags wrong,
                                  row_counts counts = {}) noexcept {
  CRAYON_ASSERT(wrong.size() == order.rows());
  double errors = 0, pairs = 0, total = 0;  // from the riskiest: errors before a right row
  for (std::size_t s = 0; s < order.steps(); ++s) {
    const auto here = detail::count_classes(order.step(s), wrong, counts, {});
    pairs += here.negative * (errors + here.positive / 2);
    errors += here.positive;
    total += here.positive + here.negative;
  }
  const double right = total - errors;
  return (errors * right - pairs + errors * errors / 2) / (total * total);
}

}  // namespace crayon::router
