// SPDX-License-Identifier: MIT
// Plain loops: the oracle of the other backends, and the one that needs no library.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>

#include <crayon/concepts.hpp>

namespace crayon::simd {

/// Sums run in double where they cost nothing extra to read, so that the other backends are
/// compared with something better than themselves.
struct scalar {
  static constexpr std::string_view name() noexcept { return "scalar"; }

  template <element E>
  static float dot(const E* p, const float* x, std::size_t n) noexcept {
    double sum = 0;
    for (std::size_t j = 0; j < n; ++j) sum += double{to_float(p[j])} * double{x[j]};
    return static_cast<float>(sum);
  }

  static float sum_squares(const float* x, std::size_t n) noexcept { return dot(x, x, n); }

  template <element E>
  static void axpy(float s, const E* p, float* y, std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j) y[j] += s * to_float(p[j]);
  }

  template <element E>
  static void gemv(matrix_view<const E> w, const float* x, float* y) noexcept {
    for (std::size_t r = 0; r < w.rows; ++r) y[r] = dot(w.row(r), x, w.cols);
  }

  template <element E>
  static void gemv_add(float s, matrix_view<const E> w, const float* x, float* y) noexcept {
    for (std::size_t r = 0; r < w.rows; ++r) y[r] += s * dot(w.row(r), x, w.cols);
  }

  template <element E>
  static void gemv_t(matrix_view<const E> w, const float* x, float* y) noexcept {
    for (std::size_t c = 0; c < w.cols; ++c) y[c] = 0;
    for (std::size_t r = 0; r < w.rows; ++r) axpy(x[r], w.row(r), y, w.cols);
  }

  static void ger(float s, const float* x, const float* y, matrix_view<float> m) noexcept {
    for (std::size_t r = 0; r < m.rows; ++r) axpy(s * x[r], y, m.row(r), m.cols);
  }

  template <element E>
  static void weighted_sum(weighted_rows<E> rows, E* e, std::size_t n) noexcept {
    weighted_sum(weighted_tiles<E>{rows.weight, rows.src, rows.count, n, 0}, e, n, false);
  }

  /// Row by row over blocks that stay in registers or L1: compilers make vectors of these loops.
  template <element E>
  static void weighted_sum(weighted_tiles<E> rows, E* e, std::size_t n, bool) noexcept {
    constexpr std::size_t block = 64;
    for (std::size_t tile = 0, at = 0; tile < n; tile += rows.tile, at += rows.stride) {
      const std::size_t length = n - tile < rows.tile ? n - tile : rows.tile;
      for (std::size_t first = 0; first < length; first += block) {
        const std::size_t count = length - first < block ? length - first : block;
        float sum[block];  // starting from -0, so that a sum of negative zeros is one
        for (float& value : sum) value = rows.count == 0 ? 0.0F : -0.0F;
        for (std::size_t i = 0; i < rows.count; ++i) {
          const E* p = rows.src[i] + at + first;
          for (std::size_t j = 0; j < count; ++j) sum[j] += rows.weight[i] * to_float(p[j]);
        }
        for (std::size_t j = 0; j < count; ++j) e[tile + first + j] = from_float<E>(sum[j]);
      }
    }
  }

  template <element E>
  static void weighted_sums(weighted_tiles<E> rows, std::size_t sums, E* e, std::size_t stride,
                            std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j) {
      const std::size_t at = j / rows.tile * rows.stride + j % rows.tile;
      for (std::size_t q = 0; q < sums; ++q) {
        float sum = 0;
        for (std::size_t i = 0; i < rows.count; ++i) {
          sum += rows.weight[i * sums + q] * to_float(rows.src[i][at]);
        }
        e[q * stride + j] = from_float<E>(sum);
      }
    }
  }

  template <element E>
  static void weighted_row_sums(weighted_tiles<E> rows, std::size_t cols, std::size_t sums, E* e,
                                std::size_t n, float*) noexcept {
    for (std::size_t j = 0; j < n; j += cols, e += sums) {
      const std::size_t at = j / rows.tile * rows.stride + j % rows.tile;
      for (std::size_t q = 0; q < sums; ++q) {
        float sum = 0;
        for (std::size_t c = 0; c < rows.count * cols; ++c) {
          sum += rows.weight[c * sums + q] * to_float(rows.src[c / cols][at + c % cols]);
        }
        e[q] = from_float<E>(sum);
      }
    }
  }

  template <element E>
  static void gemm_nt(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                      bool accumulate) noexcept {
    for (std::size_t i = 0; i < m.rows; ++i) {
      for (std::size_t j = 0; j < m.cols; ++j) {
        const float sum = dot(w.row(j), u.row(i), u.cols);
        m(i, j) = accumulate ? m(i, j) + sum : sum;
      }
    }
  }

  template <element E>
  static void gemm_nn(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                      bool accumulate) noexcept {
    for (std::size_t i = 0; i < m.rows; ++i) {
      if (!accumulate) {
        for (std::size_t j = 0; j < m.cols; ++j) m(i, j) = 0;
      }
      for (std::size_t k = 0; k < w.rows; ++k) axpy(u(i, k), w.row(k), m.row(i), m.cols);
    }
  }

  static void gemm_tn(matrix_view<const float> u, matrix_view<const float> v, matrix_view<float> m,
                      bool accumulate) noexcept {
    if (!accumulate) {
      for (std::size_t i = 0; i < m.rows; ++i) {
        for (std::size_t j = 0; j < m.cols; ++j) m(i, j) = 0;
      }
    }
    for (std::size_t k = 0; k < u.rows; ++k) ger(1, u.row(k), v.row(k), m);
  }

  static void softmax(float* y, std::size_t n) noexcept {
    if (n == 0) return;
    float top = y[0];
    for (std::size_t j = 1; j < n; ++j) top = y[j] > top ? y[j] : top;
    double sum = 0;
    for (std::size_t j = 0; j < n; ++j) sum += double{y[j] = std::exp(y[j] - top)};
    const auto scale = static_cast<float>(1 / sum);
    for (std::size_t j = 0; j < n; ++j) y[j] *= scale;
  }

  static void rms_norm(const float* x, const float* weight, float epsilon, float* y,
                       std::size_t n) noexcept {
    const float mean = sum_squares(x, n) / static_cast<float>(n);
    const float scale = 1 / std::sqrt(mean + epsilon);
    for (std::size_t j = 0; j < n; ++j) y[j] = x[j] * scale * weight[j];
  }

  static void silu_mul(const float* x, const float* up, float* y, std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j) y[j] = x[j] / (1 + std::exp(-x[j])) * up[j];
  }

  static void silu_mul_backward(const float* x, const float* up, const float* dy, float* dx,
                                float* d_up, std::size_t n) noexcept {
    for (std::size_t j = 0; j < n; ++j) {
      const float s = 1 / (1 + std::exp(-x[j])), d = dy[j];
      dx[j] = d * up[j] * (s + x[j] * s * (1 - s));
      d_up[j] = d * x[j] * s;
    }
  }

  static void softmax_backward(float s, const float* p, float* d, std::size_t n) noexcept {
    const float mean = dot(p, static_cast<const float*>(d), n);
    for (std::size_t j = 0; j < n; ++j) d[j] = p[j] * (d[j] - mean) * s;
  }

  static logit_summary summarize(const float* x, std::size_t n,
                                 std::span<ranked_token> likeliest) noexcept {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    for (auto& one : likeliest) one = {};
    logit_summary seen{lowest, lowest};
    for (std::size_t j = 0; j < n; ++j) {
      if (x[j] > seen.top) {
        seen.second = seen.top;
        seen.top = x[j];
        seen.best = j;
      } else if (x[j] > seen.second) {
        seen.second = x[j];
      }
      if (!likeliest.empty() && x[j] > likeliest.back().logit) put_in_order(likeliest, x[j], j);
    }
    for (std::size_t j = 0; j < n; ++j) {
      const float distance = x[j] - seen.top;  // NaN if x[j] is, or both are infinite
      const float e = std::exp(distance);
      seen.sum += double{e};
      if (e > 0) seen.weighted += double{e} * double{distance};
    }
    return seen;
  }
};
static_assert(kernel_backend<scalar>);

}  // namespace crayon::simd
