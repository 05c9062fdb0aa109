// SPDX-License-Identifier: MIT
// What sparse blends are made of: trim, drop and rescale, elect a sign, merge what agrees.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <crayon/adapter/cores.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/core/view.hpp>

namespace crayon::blend {

/// What happens to the adapters' values before and while they are added.
enum class sparse_rule : std::uint8_t {
  magnitude_prune,  ///< trim each, then the weighted sum
  ties,             ///< trim each, elect signs, merge what agrees (Yadav et al. 2023)
  dare,             ///< drop at random and rescale each, then the weighted sum (Yu et al. 2024)
  dare_ties         ///< drop and rescale, elect signs, merge what agrees
};

/// Whose sign an element gets.
enum class majority_sign : std::uint8_t {
  total,     ///< the sign of the sum over the adapters
  frequency  ///< the sign that most adapters have; equally many: that of the sum
};

struct sparse_options {
  double density = 0.5;  ///< share of the elements that is kept, in (0, 1]; 1: all of them
  majority_sign elect = majority_sign::total;
  std::uint64_t seed = 0;  ///< of what `dare` drops: the same on every machine
  std::size_t rank = 0;    ///< of the result, core forms; 0: the largest rank of those blended
  /// R factors of the source at each site, core forms; empty: those of the adapters that take part
  /// are computed.
  std::span<const adapter::site_cores> cores = {};
};

/// Refuses a density outside (0, 1].
[[nodiscard]] inline result<void> check_options(const sparse_options& options) {
  if (options.density > 0 && options.density <= 1) return {};
  return error{errc::bad_value,
               "a density of " + std::to_string(options.density) + ", needs 0 < density <= 1"};
}

[[nodiscard]] constexpr bool elects(sparse_rule rule) noexcept {
  return rule == sparse_rule::ties || rule == sparse_rule::dare_ties;
}
[[nodiscard]] constexpr bool drops(sparse_rule rule) noexcept {
  return rule == sparse_rule::dare || rule == sparse_rule::dare_ties;
}

/// How many of `count` elements a density keeps: PEFT's int(density * numel).
[[nodiscard]] constexpr std::size_t number_kept(double density, std::size_t count) noexcept {
  return static_cast<std::size_t>(density * static_cast<double>(count));
}

/// Keeps the `count` elements of largest magnitude and sets the others to zero; of equal ones the
/// first are kept. Linear time, no memory: the threshold is found digit by digit in the bits,
/// whose order is that of the magnitudes.
template <std::floating_point T>
void keep_largest(std::span<T> x, std::size_t count) noexcept {
  using bits_type = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  constexpr bits_type magnitude = ~bits_type{0} >> 1, digit = 0xFF;
  if (count >= x.size()) return;
  bits_type threshold = 0, known = 0;  // the digits found so far, and where they are
  std::size_t wanted = count;          // of the elements that have these digits
  for (int shift = static_cast<int>(8 * sizeof(T)) - 8; shift >= 0; shift -= 8) {
    std::array<std::size_t, digit + 1> histogram{};
    for (const T value : x) {
      const bits_type bits = std::bit_cast<bits_type>(value) & magnitude;
      if ((bits & known) == threshold) ++histogram[(bits >> shift) & digit];
    }
    bits_type d = digit;
    for (; d > 0 && histogram[d] < wanted; --d) wanted -= histogram[d];
    threshold |= d << shift;
    known |= digit << shift;
  }
  for (T& value : x) {
    const bits_type bits = std::bit_cast<bits_type>(value) & magnitude;
    if (bits > threshold) continue;
    if (bits == threshold && wanted > 0) {
      --wanted;
    } else {
      value = 0;
    }
  }
}

/// The random stream that says what is dropped from one adapter at one module. `part` tells apart
/// the factors of a module. It depends on nothing else, so that other adapters, sites or weights
/// in a blend do not change it.
[[nodiscard]] inline rng drop_stream(std::uint64_t seed, std::size_t slot, std::string_view module,
                                     char part) noexcept {
  hasher h;
  h.add(module);
  rng mix(h.value() ^ rng(seed)());
  return rng(mix() ^ rng(slot * 256 + static_cast<unsigned char>(part))());
}

/// Keeps each element with probability `density`, divided by it: the expectation is the input.
/// One number of the stream is used for each element.
template <std::floating_point T>
void drop_and_rescale(std::span<T> x, double density, rng stream) noexcept {
  if (density >= 1) return;
  const auto limit = static_cast<std::uint64_t>(density * 0x1p53);
  const auto divisor = static_cast<T>(density);
  for (T& value : x) value = (stream() >> 11) < limit ? value / divisor : T{0};
}

/// out[j] = sum_i weights[i] rows[i][j]; rows (adapters, n).
template <std::floating_point T>
void sum_rows(matrix_view<const T> rows, const T* weights, T* out) noexcept {
  for (std::size_t j = 0; j < rows.cols; ++j) out[j] = 0;
  for (std::size_t i = 0; i < rows.rows; ++i) {
    const T* row = rows.row(i);
    for (std::size_t j = 0; j < rows.cols; ++j) out[j] += weights[i] * row[j];
  }
}

/// The disjoint merge of PEFT's merge_utils.ties: the sign is elected from the rows as they are,
/// without their weights, a sum of zero counting as positive; then
///   out[j] = (sum of weights[i] rows[i][j] over the i that agree) / (how many agree).
template <std::floating_point T>
void merge_unweighted_majority(matrix_view<const T> rows, const T* weights, majority_sign elect,
                               T* out) noexcept {
  for (std::size_t j = 0; j < rows.cols; ++j) {
    T sum = 0;
    for (std::size_t i = 0; i < rows.rows; ++i) {
      const T value = rows.row(i)[j];
      sum += elect == majority_sign::total ? value : T((value > 0) - (value < 0));
    }
    const T sign = sum >= 0 ? T{1} : T{-1};
    T merged = 0, agreeing = 0;
    for (std::size_t i = 0; i < rows.rows; ++i) {
      const T value = rows.row(i)[j];
      if (!(value * sign > 0)) continue;
      merged += weights[i] * value;
      agreeing += 1;
    }
    out[j] = agreeing > 0 ? merged / agreeing : T{0};
  }
}

/// The disjoint merge with weights: v_i = weights[i] rows[i][j] elect the sign, and
///   out[j] = (sum of the v_i that agree) * (sum of all |weights|) / (sum of their |weights|).
/// Where all agree that is the weighted sum; with equal weights it is the mean of those that agree
/// times the sum of the weights, the lambda of Yadav et al. 2023. It negates exactly with the
/// weights: a sum of magnitude at most `none`, what rounding leaves of a zero, elects nobody.
template <std::floating_point T>
void merge_weighted_majority(matrix_view<const T> rows, const T* weights, majority_sign elect,
                             T* out, T none = 0) noexcept {
  T all = 0;
  for (std::size_t i = 0; i < rows.rows; ++i) all += std::abs(weights[i]);
  for (std::size_t j = 0; j < rows.cols; ++j) {
    T sum = 0, votes = 0;
    for (std::size_t i = 0; i < rows.rows; ++i) {
      const T value = weights[i] * rows.row(i)[j];
      sum += value;
      votes += T((value > 0) - (value < 0));
    }
    if (std::abs(sum) <= none) sum = 0;
    const T sign = elect == majority_sign::frequency && votes != 0 ? votes : sum;
    T merged = 0, agreeing = 0;
    for (std::size_t i = 0; i < rows.rows; ++i) {
      const T value = weights[i] * rows.row(i)[j];
      if (!((value > 0 && sign > 0) || (value < 0 && sign < 0))) continue;
      merged += value;
      agreeing += std::abs(weights[i]);
    }
    out[j] = agreeing > 0 ? merged * (all / agreeing) : T{0};
  }
}

}  // namespace crayon::blend
