// SPDX-License-Identifier: MIT
// What every backend must compute, against sums in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/rng.hpp>

#include "../catch.hpp"
#include "guarded.hpp"

namespace crayon::test {

// ------------------------------------------------------------------------------------ tolerance

/// A sum of n products in f32, in any order, is within n units of the sum of their magnitudes
/// (Higham, Accuracy and Stability of Numerical Algorithms, 3.1); a few more for what surrounds it.
inline double sum_tolerance(std::size_t n, double magnitude) {
  return (static_cast<double>(n) + 4) * double{unit_roundoff<float>} * magnitude;
}

/// Storing `value` in an E: half an ulp, which for a subnormal f16 is 2^-25.
template <element E>
double store_tolerance(double value) {
  const double smallest = std::same_as<E, f16> ? 0x1p-25 : 0.0;
  return std::max(std::fabs(value) * double{unit_roundoff<E>}, smallest);
}

/// exp of the backends: 2 ulp and the rounding of its argument, which grows with the argument.
inline double exp_relative_tolerance(double argument) {
  return (4 + std::fabs(argument)) * 2 * double{unit_roundoff<float>};
}

// ---------------------------------------------------------------------------------------- input

/// 0, 1, the numbers around every vector width and its multiples that loops are unrolled by.
inline const std::vector<std::size_t>& sizes() {
  static const std::vector<std::size_t> all{0,  1,  2,  3,  4,  5,  7,  8,  9,  15,  16,  17,
                                            31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 129, 257};
  return all;
}

template <class T>
void fill(const guarded<T>& array, rng& random) {
  for (auto& value : array) value = from_float<T>(2 * random.uniform() - 1);
}

template <class T>
double at(const guarded<T>& array, std::size_t i) {
  return double{to_float(array[i])};
}

/// A matrix whose rows lie `gap` elements apart; what lies in the gaps must not change.
template <class T>
struct guarded_matrix {
  guarded<T> memory;
  std::size_t rows, cols, stride;

  guarded_matrix(std::size_t r, std::size_t c, std::size_t gap)
      : memory(r == 0 ? 0 : (r - 1) * (c + gap) + c), rows(r), cols(c), stride(c + gap) {}
  [[nodiscard]] matrix_view<T> view() const { return {memory.data(), rows, cols, stride}; }
  [[nodiscard]] matrix_view<const T> constant() const { return view(); }
  [[nodiscard]] double at(std::size_t r, std::size_t c) const {
    return double{to_float(memory[r * stride + c])};
  }
  /// Every element outside the matrix still is what `other` has there.
  [[nodiscard]] bool gaps_equal(const std::vector<T>& other) const {
    for (std::size_t i = 0; i < memory.size(); ++i) {
      if (i % stride >= cols && !(memory[i] == other[i])) return false;
    }
    return true;
  }
  [[nodiscard]] std::vector<T> copy() const { return {memory.begin(), memory.end()}; }
};

// --------------------------------------------------------------------------------------- checks

template <class B, element E>
void check_dot_and_axpy() {
  rng random{11};
  for (const std::size_t n : sizes()) {
    for (const auto side : {guard::behind, guard::before}) {
      for (const std::size_t shift : {0U, 1U, 3U}) {
        CAPTURE(B::name(), n, shift);
        const guarded<E> p(n, side, shift);
        const guarded<float> x(n, side, 0), y(n, side, shift);
        fill(p, random);
        fill(x, random);
        fill(y, random);
        double sum = 0, magnitude = 0;
        for (std::size_t j = 0; j < n; ++j) {
          sum += at(p, j) * at(x, j);
          magnitude += std::fabs(at(p, j) * at(x, j));
        }
        REQUIRE(std::fabs(double{B::dot(p.data(), x.data(), n)} - sum) <=
                sum_tolerance(n, magnitude));
        const std::vector<float> before(y.begin(), y.end());
        B::axpy(-0.75F, p.data(), y.data(), n);
        for (std::size_t j = 0; j < n; ++j) {
          const double product = -0.75 * at(p, j), want = double{before[j]} + product;
          REQUIRE(std::fabs(at(y, j) - want) <=
                  sum_tolerance(2, std::fabs(double{before[j]}) + std::fabs(product)));
        }
      }
    }
  }
}

template <class B, element E>
void check_gemv() {
  rng random{12};
  for (const std::size_t rows : {0U, 1U, 3U, 4U, 5U, 9U, 18U}) {
    for (const std::size_t cols : sizes()) {
      for (const std::size_t gap : {0U, 5U}) {
        CAPTURE(B::name(), rows, cols, gap);
        const guarded_matrix<E> w(rows, cols, gap);
        const guarded<float> x(cols), y(rows), t(cols), z(rows);
        fill(w.memory, random);
        fill(x, random);
        fill(y, random);
        fill(z, random);
        std::fill(t.begin(), t.end(), std::numeric_limits<float>::quiet_NaN());
        const std::vector<float> before(y.begin(), y.end());
        B::gemv_add(0.5F, w.constant(), x.data(), y.data());
        B::gemv_t(w.constant(), z.data(), t.data());
        for (std::size_t c = 0; c < cols; ++c) {
          double sum = 0, magnitude = 0;
          for (std::size_t r = 0; r < rows; ++r) {
            sum += w.at(r, c) * at(z, r);
            magnitude += std::fabs(w.at(r, c) * at(z, r));
          }
          REQUIRE(std::fabs(at(t, c) - sum) <= sum_tolerance(rows, magnitude));
        }
        std::fill(z.begin(), z.end(), std::numeric_limits<float>::quiet_NaN());
        B::gemv(w.constant(), x.data(), z.data());
        for (std::size_t r = 0; r < rows; ++r) {
          double sum = 0, magnitude = 0;
          for (std::size_t c = 0; c < cols; ++c) {
            sum += w.at(r, c) * at(x, c);
            magnitude += std::fabs(w.at(r, c) * at(x, c));
          }
          const double tolerance = sum_tolerance(cols, magnitude);
          REQUIRE(std::fabs(at(z, r) - sum) <= tolerance);
          REQUIRE(std::fabs(at(y, r) - double{before[r]} - 0.5 * sum) <=
                  tolerance + sum_tolerance(1, std::fabs(double{before[r]})));
        }
      }
    }
  }
}

enum class product { nt, nn, tn };

/// One product against sums in double; C holds NaN before where it must be overwritten.
template <class B, element E, product Form>
void check_gemm(std::size_t m, std::size_t n, std::size_t k, std::size_t gap, bool accumulate,
                rng& random) {
  CAPTURE(B::name(), static_cast<int>(Form), m, n, k, gap, accumulate);
  const guarded_matrix<float> u(Form == product::tn ? k : m, Form == product::tn ? m : k, gap);
  const guarded_matrix<E> w(Form == product::nt ? n : k, Form == product::nt ? k : n, gap);
  const guarded_matrix<float> c(m, n, gap);
  fill(u.memory, random);
  fill(w.memory, random);
  fill(c.memory, random);
  const auto gaps = c.copy();
  if (!accumulate) {
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        c.view().data[i * c.stride + j] = std::numeric_limits<float>::quiet_NaN();
      }
    }
  }
  if constexpr (Form == product::nt) {
    B::gemm_nt(u.constant(), w.constant(), c.view(), accumulate);
  } else if constexpr (Form == product::nn) {
    B::gemm_nn(u.constant(), w.constant(), c.view(), accumulate);
  } else {
    B::gemm_tn(u.constant(), w.constant(), c.view(), accumulate);
  }
  bool close = true;
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      double sum = accumulate ? double{gaps[i * c.stride + j]} : 0;
      double magnitude = std::fabs(sum);
      for (std::size_t p = 0; p < k; ++p) {
        const double term = (Form == product::tn ? u.at(p, i) : u.at(i, p)) *
                            (Form == product::nt ? w.at(j, p) : w.at(p, j));
        sum += term;
        magnitude += std::fabs(term);
      }
      close = close && std::fabs(c.at(i, j) - sum) <= sum_tolerance(k, magnitude);
    }
  }
  REQUIRE(close);
  REQUIRE(c.gaps_equal(gaps));
}

template <class B, element E>
void check_gemms() {
  rng random{13};
  const auto all_forms = [&](std::size_t m, std::size_t n, std::size_t k, std::size_t gap,
                             bool accumulate) {
    check_gemm<B, E, product::nt>(m, n, k, gap, accumulate, random);
    check_gemm<B, E, product::nn>(m, n, k, gap, accumulate, random);
    if constexpr (std::same_as<E, float>) {
      check_gemm<B, float, product::tn>(m, n, k, gap, accumulate, random);
    }
  };
  for (const std::size_t m : {0U, 1U, 3U, 7U, 8U, 17U, 31U}) {
    for (const std::size_t n : {0U, 1U, 4U, 8U, 15U, 16U, 17U, 33U, 48U, 50U}) {
      for (const std::size_t k : {0U, 1U, 2U, 9U, 33U}) {
        all_forms(m, n, k, (m + n) % 3, (m + n + k) % 2 == 0);
      }
    }
  }
  // Deeper than one packed panel, wider than one, and skinny in each direction.
  for (const bool accumulate : {false, true}) {
    all_forms(37, 53, 600, 7, accumulate);
    all_forms(64, 96, 256, 0, accumulate);
    all_forms(40, 4, 513, 0, accumulate);
    all_forms(70, 8, 515, 2, accumulate);
    all_forms(5, 130, 300, 1, accumulate);
  }
}

template <class B, element E>
void check_weighted_sum() {
  rng random{14};
  for (const std::size_t count : {0U, 1U, 3U, 8U}) {
    for (const std::size_t n : sizes()) {
      CAPTURE(B::name(), count, n);
      std::vector<float> weight(count);
      for (auto& value : weight) value = 2 * random.uniform() - 1;
      const guarded<E> memory(count * n), result(n);
      fill(memory, random);
      std::vector<const E*> src(count);
      for (std::size_t i = 0; i < count; ++i) src[i] = memory.data() + i * n;
      B::weighted_sum(weighted_rows<E>{weight.data(), src.data(), count}, result.data(), n);
      for (std::size_t j = 0; j < n; ++j) {
        double sum = 0, magnitude = 0;
        for (std::size_t i = 0; i < count; ++i) {
          const double term = double{weight[i]} * double{to_float(src[i][j])};
          sum += term;
          magnitude += std::fabs(term);
        }
        REQUIRE(std::fabs(at(result, j) - sum) <=
                1.01 * store_tolerance<E>(sum) + sum_tolerance(count, magnitude));
      }
    }
  }
}

/// Tiles give what whole rows give, to the bit: at any length, with the stores past the caches too.
template <class B, element E>
void check_weighted_tiles() {
  rng random{16};
  constexpr std::size_t line = alignment / sizeof(E);
  for (const std::size_t count : {0U, 1U, 5U}) {
    for (const std::size_t tile : {line, 3 * line, std::size_t{256}, std::size_t{1000}}) {
      for (const std::size_t n : {std::size_t{0}, std::size_t{1}, tile - 1, tile, tile + 1,
                                  3 * tile, 3 * tile + line + 5}) {
        for (const bool past_caches : {false, true}) {
          CAPTURE(B::name(), count, tile, n, past_caches);
          std::vector<float> weight(count);
          for (auto& value : weight) value = 2 * random.uniform() - 1;
          // One row more than is summed, as a pool whose other adapters have no weight.
          const std::size_t tiles = (n + tile - 1) / tile, stride = (count + 1) * tile;
          const guarded<E> memory(tiles * stride);
          fill(memory, random);
          std::vector<aligned_vector<E>> rows(count, aligned_vector<E>(tiles * tile));
          std::vector<const E*> src(count), whole(count);
          for (std::size_t i = 0; i < count; ++i) {
            src[i] = memory.data() + i * tile;
            whole[i] = rows[i].data();
            for (std::size_t j = 0; j < tiles * tile; ++j) {
              rows[i][j] = src[i][j / tile * stride + j % tile];
            }
          }
          const guarded<E> misaligned(n);
          aligned_vector<E> expected(n), aligned(n + 1);
          B::weighted_sum(weighted_rows<E>{weight.data(), whole.data(), count}, expected.data(), n);
          const weighted_tiles<E> all{weight.data(), src.data(), count, tile, stride};
          aligned[n] = from_float<E>(-7);
          B::weighted_sum(all, aligned.data(), n, past_caches);
          B::weighted_sum(all, misaligned.data(), n, past_caches);
          std::size_t wrong = 0;
          for (std::size_t j = 0; j < n; ++j) {
            wrong += !(to_float(aligned[j]) == to_float(expected[j]));
            wrong += !(to_float(misaligned[j]) == to_float(expected[j]));
          }
          REQUIRE(wrong == 0);
          REQUIRE(to_float(aligned[n]) == -7);
        }
      }
    }
  }
  // One row of weight 1 is copied bit by bit, negative zeros too.
  for (const bool past_caches : {false, true}) {
    constexpr std::size_t n = 777;
    aligned_vector<E> from(n), to(n);
    for (std::size_t j = 0; j < n; ++j) {
      const float sign = j % 2 == 0 ? 1.0F : -1.0F;
      from[j] = from_float<E>(j % 3 == 0 ? sign * 0.0F : sign * random.uniform());
    }
    const float one = 1;
    const E* src[] = {from.data()};
    B::weighted_sum(weighted_tiles<E>{&one, src, 1, n, 0}, to.data(), n, past_caches);
    REQUIRE(std::memcmp(from.data(), to.data(), n * sizeof(E)) == 0);
  }
}

/// All values of a 16-bit element survive load and store; sums that are exact in f32 are rounded
/// as core/element.hpp rounds, to the bit.
template <class B, element E>
void check_conversions() {
  constexpr std::size_t n = 65536;
  const guarded<E> all(n), other(n), result(n);
  for (std::size_t i = 0; i < n; ++i) {
    all[i].bits = static_cast<std::uint16_t>(i);
    other[i].bits = static_cast<std::uint16_t>((i * 40503U) ^ 0x55U);
  }
  for (const float weight : {0.0F, 0x1p-8F, 0x1p-9F, 0x1p-11F, 0x1p-12F, 1.0F, 3.0F}) {
    const float weights[] = {1.0F, weight};
    const E* src[] = {all.data(), other.data()};
    B::weighted_sum(weighted_rows<E>{weights, src, 2}, result.data(), n);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double exact = double{to_float(all[i])} + double{weight} * double{to_float(other[i])};
      const auto sum = static_cast<float>(exact);
      if (std::isnan(sum)) {
        wrong += !std::isnan(to_float(result[i]));
      } else if (double{sum} == exact || std::isinf(sum)) {
        wrong += !(to_float(result[i]) == to_float(from_float<E>(sum)));
      }
    }
    CAPTURE(B::name(), weight);
    REQUIRE(wrong == 0);
  }
}

template <class B>
void check_ger() {
  rng random{15};
  for (const std::size_t rows : {0U, 1U, 5U}) {
    for (const std::size_t cols : sizes()) {
      CAPTURE(B::name(), rows, cols);
      const guarded_matrix<float> m(rows, cols, 3);
      const guarded<float> x(rows), y(cols);
      fill(m.memory, random);
      fill(x, random);
      fill(y, random);
      const auto before = m.copy();
      B::ger(1.5F, x.data(), y.data(), m.view());
      REQUIRE(m.gaps_equal(before));
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) {
          const double old = double{before[r * m.stride + c]}, term = 1.5 * at(x, r) * at(y, c);
          REQUIRE(std::fabs(m.at(r, c) - old - term) <=
                  sum_tolerance(2, std::fabs(old) + std::fabs(term)));
        }
      }
    }
  }
}

template <class B>
void check_softmax() {
  rng random{16};
  for (const std::size_t n : sizes()) {
    for (const float spread : {1.0F, 30.0F, 200.0F}) {
      CAPTURE(B::name(), n, spread);
      const guarded<float> y(n);
      fill(y, random);
      double top = -1e30, sum = 0;
      for (auto& value : y) {
        value = value * spread + 500;
        top = std::max(top, double{value});
      }
      const std::vector<float> before(y.begin(), y.end());
      for (const float value : before) sum += std::exp(double{value} - top);
      B::softmax(y.data(), n);
      for (std::size_t j = 0; j < n; ++j) {
        const double argument = double{before[j]} - top, want = std::exp(argument) / sum;
        REQUIRE(std::fabs(at(y, j) - want) <=
                want * (exp_relative_tolerance(argument) + sum_tolerance(n, 1)) + 1.2e-38);
      }
    }
  }
  const guarded<float> y(70);
  std::fill(y.begin(), y.end(), -std::numeric_limits<float>::infinity());
  y[67] = 3;
  B::softmax(y.data(), 70);
  REQUIRE(y[67] == 1.0F);
  REQUIRE(y[0] == 0.0F);
  y[5] = std::numeric_limits<float>::quiet_NaN();
  B::softmax(y.data(), 70);
  REQUIRE(std::isnan(y[67]));
}

template <class B>
void check_norm_and_silu() {
  rng random{17};
  for (const std::size_t n : sizes()) {
    CAPTURE(B::name(), n);
    const guarded<float> x(n), weight(n), y(n);
    fill(x, random);
    fill(weight, random);
    double squares = 0;
    for (std::size_t j = 0; j < n; ++j) squares += at(x, j) * at(x, j);
    REQUIRE(std::fabs(double{B::sum_squares(x.data(), n)} - squares) <= sum_tolerance(n, squares));
    B::rms_norm(x.data(), weight.data(), 1e-5F, y.data(), n);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
    for (std::size_t j = 0; j < n; ++j) {
      const double want = at(x, j) * scale * at(weight, j);
      REQUIRE(std::fabs(at(y, j) - want) <= sum_tolerance(n, std::fabs(want)));
    }
    for (auto& value : x) value *= 40;
    B::silu_mul(x.data(), weight.data(), y.data(), n);
    for (std::size_t j = 0; j < n; ++j) {
      const double want = at(x, j) / (1 + std::exp(-at(x, j))) * at(weight, j);
      REQUIRE(std::fabs(at(y, j) - want) <=
              std::fabs(want) * (exp_relative_tolerance(at(x, j)) + sum_tolerance(4, 1)) + 1e-36);
    }
    const std::vector<float> once(y.begin(), y.end());
    B::silu_mul(x.data(), weight.data(), x.data(), n);  // in place
    REQUIRE(std::equal(once.begin(), once.end(), x.begin()));
  }
  const float far[] = {-1000, -100, 100, 1000, 0}, one[] = {1, 1, 1, 1, 1};
  float y[5];
  B::silu_mul(far, one, y, 5);
  REQUIRE(std::fabs(y[0]) <= 1e-30F);
  REQUIRE(std::fabs(y[1]) <= 1e-30F);
  REQUIRE(y[2] == 100.0F);
  REQUIRE(y[3] == 1000.0F);
  REQUIRE(y[4] == 0.0F);
}

/// Sizes around the vectors, and around the blocks that the pass goes by.
/// The derivatives, against double: of silu(x) * up where the exponential saturates, too.
template <class B>
void check_backward() {
  rng random{18};
  for (const std::size_t n : sizes()) {
    CAPTURE(B::name(), n);
    const guarded<float> x(n), up(n), dy(n), dx(n), d_up(n);
    for (const auto* values : {&x, &up, &dy}) fill(*values, random);
    for (std::size_t j = 0; j < n; ++j) x[j] *= j % 3 == 0 ? 200.0F : 4.0F;
    B::silu_mul_backward(x.data(), up.data(), dy.data(), dx.data(), d_up.data(), n);
    for (std::size_t j = 0; j < n; ++j) {
      const double s = 1 / (1 + std::exp(-at(x, j))), y = at(x, j) * s;
      const double relative = 4 * exp_relative_tolerance(at(x, j)) + sum_tolerance(8, 1);
      const double outer = std::fabs(at(dy, j) * at(up, j));
      REQUIRE(std::fabs(at(dx, j) - at(dy, j) * at(up, j) * (s + y * (1 - s))) <=
              outer * relative * (s + std::fabs(y)) + 1e-36);
      REQUIRE(std::fabs(at(d_up, j) - at(dy, j) * y) <=
              std::fabs(at(dy, j) * y) * relative + 1e-36);
    }
    const guarded<float> p(n), d(n);
    fill(p, random);
    fill(d, random);
    const std::vector<float> before(d.begin(), d.end());
    double mean = 0, magnitude = 0;
    for (std::size_t j = 0; j < n; ++j) {
      mean += at(p, j) * at(d, j);
      magnitude += std::fabs(at(p, j) * at(d, j));
    }
    B::softmax_backward(0.75F, p.data(), d.data(), n);
    for (std::size_t j = 0; j < n; ++j) {
      const double want = 0.75 * at(p, j) * (double{before[j]} - mean);
      const double size = std::fabs(at(p, j)) * (std::fabs(double{before[j]}) + magnitude);
      REQUIRE(std::fabs(at(d, j) - want) <= sum_tolerance(n + 4, size));
    }
  }
}

template <class B>
void check_summarize() {
  rng random{18};
  std::vector<std::size_t> all = sizes();
  all.insert(all.end(), {2047, 2048, 2049, 4096, 5001});
  for (const std::size_t n : all) {
    for (const float spread : {0.0F, 1.0F, 40.0F}) {
      CAPTURE(B::name(), n, spread);
      const guarded<float> x(n);
      for (auto& value : x) value = std::round(64 * spread * random.normal()) / 64 - 30;
      if (n == 4096) std::sort(x.begin(), x.end());  // every block raises the maximum
      if (n == 65) x[3] = x[40] = -std::numeric_limits<float>::infinity();
      std::vector<std::size_t> order(n);
      for (std::size_t j = 0; j < n; ++j) order[j] = j;
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return x[a] > x[b]; });
      std::vector<ranked_token> likeliest(5);
      const logit_summary seen = B::summarize(x.data(), n, likeliest);
      for (std::size_t k = 0; k < likeliest.size(); ++k) {
        REQUIRE(likeliest[k].token == (k < n ? static_cast<std::int32_t>(order[k]) : -1));
        if (k < n) REQUIRE(likeliest[k].logit == x[order[k]]);
      }
      if (n == 0) {
        REQUIRE(seen.sum == 0);
        continue;
      }
      double sum = 0, weighted = 0;
      for (const float value : x) {
        const double d = double{value} - double{x[order[0]]};
        sum += std::exp(d);
        weighted += d < -1000 ? 0 : std::exp(d) * d;
      }
      REQUIRE(seen.best == order[0]);
      REQUIRE(seen.top == x[order[0]]);
      if (n > 1) REQUIRE(seen.second == x[order[1]]);
      if (n == 1) REQUIRE(std::isinf(seen.second));
      REQUIRE(std::fabs(seen.sum - sum) <= 4e-6 * sum);
      REQUIRE(std::fabs(seen.weighted - weighted) <= 4e-6 * (sum - weighted));
      const logit_summary without = B::summarize(x.data(), n, {});
      REQUIRE(without.sum == seen.sum);
      REQUIRE(without.best == seen.best);
    }
  }
  // The two largest in one lane: of one block, of two, before and after each other, equal.
  for (const std::size_t distance : {64U, 2048U}) {
    for (const float other : {4.0F, 5.0F}) {
      std::vector<float> two(5000);
      two[100] = 5;
      two[100 + distance] = other;
      const logit_summary forward = B::summarize(two.data(), two.size(), {});
      REQUIRE(forward.best == 100);
      REQUIRE(forward.second == other);
      std::swap(two[100], two[100 + distance]);
      const logit_summary backward = B::summarize(two.data(), two.size(), {});
      REQUIRE(backward.best == (other == 5 ? 100 : 100 + distance));
      REQUIRE(backward.second == other);
    }
  }
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x(3000, -infinity);
  const auto broken = [&] { return std::isnan(B::summarize(x.data(), x.size(), {}).sum); };
  REQUIRE(broken());
  x[2500] = x[2600] = 1;
  REQUIRE(B::summarize(x.data(), x.size(), {}).sum == Approx(2));
  REQUIRE(B::summarize(x.data(), x.size(), {}).best == 2500);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity}) {
    for (const std::size_t where : {0U, 1U, 2499U, 2501U, 2999U}) {
      const float before = x[where];
      x[where] = bad;
      CAPTURE(B::name(), bad, where);
      REQUIRE(broken());
      x[where] = before;
    }
  }
}

template <class B, element E>
void check_element_kernels() {
  check_dot_and_axpy<B, E>();
  check_gemv<B, E>();
  check_gemms<B, E>();
  check_weighted_sum<B, E>();
  check_weighted_tiles<B, E>();
  if constexpr (!std::same_as<E, float>) check_conversions<B, E>();
}

template <class B>
void check_float_kernels() {
  check_ger<B>();
  check_softmax<B>();
  check_norm_and_silu<B>();
  check_backward<B>();
  check_summarize<B>();
}

}  // namespace crayon::test
