// SPDX-License-Identifier: MIT
// What any router has to beat: chance, the outcomes of the nearest queries, a line through the
// features, and the words of the query.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/core/function_ref.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/core/view.hpp>
#include <crayon/router/evaluate_ranking.hpp>
#include <crayon/router/logistic.hpp>

namespace crayon::router {

/// One draw of a router that knows nothing.
[[nodiscard]] inline std::vector<double> random_risks(std::size_t rows, std::uint64_t seed) {
  rng random(seed);
  std::vector<double> risks(rows);
  for (double& r : risks) r = static_cast<double>(random.uniform());
  return risks;
}

/// Subtracts each column's mean over the rows of `known` and divides by its deviation, in both
/// (rows, columns); a column that is constant becomes 0.
inline void standardise(matrix_view<float> known, matrix_view<float> queries) noexcept {
  CRAYON_ASSERT(known.cols == queries.cols);
  for (std::size_t j = 0; j < known.cols; ++j) {
    double sum = 0, squares = 0;
    for (std::size_t i = 0; i < known.rows; ++i) sum += double{known.row(i)[j]};
    const double mean = sum / static_cast<double>(known.rows);
    for (std::size_t i = 0; i < known.rows; ++i) {
      squares += (double{known.row(i)[j]} - mean) * (double{known.row(i)[j]} - mean);
    }
    const double scale = squares > 0 ? 1 / std::sqrt(squares / static_cast<double>(known.rows)) : 0;
    for (const auto& m : {known, queries}) {
      for (std::size_t i = 0; i < m.rows; ++i) {
        m.row(i)[j] = static_cast<float>((double{m.row(i)[j]} - mean) * scale);
      }
    }
  }
}

namespace detail {

/// In eight partial sums, which a compiler may keep in one register.
[[nodiscard]] inline float squared_distance(const float* x, const float* y,
                                            std::size_t n) noexcept {
  float part[8] = {};
  std::size_t j = 0;
  for (; j + 8 <= n; j += 8) {
    for (std::size_t l = 0; l < 8; ++l) part[l] += (x[j + l] - y[j + l]) * (x[j + l] - y[j + l]);
  }
  for (; j < n; ++j) part[0] += (x[j] - y[j]) * (x[j] - y[j]);
  return ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7]));
}

}  // namespace detail

/// The share of wrong answers among the `k` nearest of the known queries (Euclidean; of equally
/// near ones the first), for each of the queries. Features (rows, columns), of one scale.
/// `after(q)` is called after each of the queries.
[[nodiscard]] inline std::vector<double> neighbour_risks(
    matrix_view<const float> known, row_flags wrong, matrix_view<const float> queries,
    std::size_t k, function_ref<void(std::size_t)> after = [](std::size_t) {}) {
  CRAYON_ASSERT(known.rows == wrong.size() && known.cols == queries.cols && known.rows > 0);
  k = std::clamp<std::size_t>(k, 1, known.rows);
  std::vector<std::pair<float, std::size_t>> near(known.rows);
  std::vector<double> risks(queries.rows);
  for (std::size_t q = 0; q < queries.rows; ++q) {
    const float* x = queries.row(q);
    for (std::size_t i = 0; i < known.rows; ++i) {
      near[i] = {detail::squared_distance(x, known.row(i), known.cols), i};
    }
    std::nth_element(near.begin(), near.begin() + static_cast<std::ptrdiff_t>(k - 1), near.end());
    std::size_t errors = 0;
    for (std::size_t i = 0; i < k; ++i) errors += wrong[near[i].second] != 0;
    risks[q] = static_cast<double>(errors) / static_cast<double>(k);
    after(q);
  }
  return risks;
}

/// Log-odds of an error by logistic regression on the features: the minimum of the mean
/// cross-entropy of `wrong` + penalty |w|^2 / 2, with a free offset. scikit-learn's C is 1 /
/// (penalty rows).
[[nodiscard]] inline std::vector<double> linear_risks(matrix_view<const float> known,
                                                      row_flags wrong,
                                                      matrix_view<const float> queries,
                                                      double penalty) {
  CRAYON_ASSERT(known.rows == wrong.size() && known.cols == queries.cols && known.rows > 0);
  const auto line = fit_logistic(known, wrong, penalty * static_cast<double>(known.rows));
  std::vector<double> risks(queries.rows);
  for (std::size_t q = 0; q < queries.rows; ++q) risks[q] = line(queries.row(q));
  return risks;
}

/// An embedding of a text without a model, of unit length: its words (ASCII letters and digits, in
/// lower case; other bytes part them), each hashed to a place and a sign (Weinberger et al. 2009);
/// of what falls on a place, the square root.
inline void hashed_words(std::string_view text, std::span<float> f) noexcept {
  std::fill(f.begin(), f.end(), 0.0F);
  constexpr std::uint64_t start = 14695981039346656037U;  // FNV-1a
  std::uint64_t hash = start;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    char c = i < text.size() ? text[i] : ' ';
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
    } else if (hash != start) {
      const std::uint64_t mixed = rng(hash)();
      f[static_cast<std::size_t>(mixed >> 1) % f.size()] += (mixed & 1) != 0 ? 1.0F : -1.0F;
      hash = start;
    }
  }
  float squares = 0;
  for (float& x : f) {
    squares += std::abs(x);
    x = x < 0 ? -std::sqrt(-x) : std::sqrt(x);
  }
  if (!(squares > 0)) return;
  for (float& x : f) x /= std::sqrt(squares);
}

}  // namespace crayon::router
