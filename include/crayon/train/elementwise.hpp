// SPDX-License-Identifier: MIT
// The row-wise operations of a Llama block, each backward beside its forward.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include <crayon/concepts.hpp>
#include <crayon/model/rope.hpp>

namespace crayon::train {

/// to = from; both without gaps.
inline void copy_rows(matrix_view<const float> from, matrix_view<float> to) noexcept {
  std::copy_n(from.data, from.size(), to.data);
}

/// Row i of `to` = row rows[i] of `from`.
inline void gather_rows(matrix_view<const float> from, std::span<const std::size_t> rows,
                        matrix_view<float> to) noexcept {
  for (std::size_t i = 0; i < rows.size(); ++i) std::copy_n(from.row(rows[i]), to.cols, to.row(i));
}

/// The other way; rows that are not named become 0.
inline void scatter_rows(matrix_view<const float> from, std::span<const std::size_t> rows,
                         matrix_view<float> to) noexcept {
  std::fill_n(to.data, to.size(), 0.0F);
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::copy_n(from.row(i), from.cols, to.row(rows[i]));
}

/// d_table += dy, row by row.
inline void embedding_backward(matrix_view<const float> dy, std::span<const std::int32_t> ids,
                               matrix_view<float> d_table) noexcept {
  for (std::size_t t = 0; t < ids.size(); ++t) {
    const float* CRAYON_RESTRICT from = dy.row(t);
    float* CRAYON_RESTRICT to = d_table.row(static_cast<std::size_t>(ids[t]));
    for (std::size_t j = 0; j < dy.cols; ++j) to[j] += from[j];
  }
}

/// y = x / rms(x) * weight, row by row.
template <kernel_backend B>
void rms_norm_forward(matrix_view<const float> x, const float* weight, float epsilon,
                      matrix_view<float> y) noexcept {
  for (std::size_t t = 0; t < x.rows; ++t) B::rms_norm(x.row(t), weight, epsilon, y.row(t), x.cols);
}

/// With r = 1 / rms(x) and g = dy * weight: dx += r g - x r^3 mean(g x); d_weight += dy x r.
/// `d_weight` may be null. `scratch` has x.cols floats.
template <kernel_backend B>
void rms_norm_backward(matrix_view<const float> x, const float* CRAYON_RESTRICT weight,
                       float epsilon, matrix_view<const float> dy, matrix_view<float> dx,
                       float* CRAYON_RESTRICT d_weight, float* CRAYON_RESTRICT scratch) noexcept {
  const std::size_t n = x.cols;
  const float inverse_n = 1 / static_cast<float>(n);
  for (std::size_t t = 0; t < x.rows; ++t) {
    const float* CRAYON_RESTRICT in = x.row(t);
    const float* CRAYON_RESTRICT d_out = dy.row(t);
    float* CRAYON_RESTRICT d_in = dx.row(t);
    const float r = 1 / std::sqrt(B::sum_squares(in, n) * inverse_n + epsilon);
    for (std::size_t j = 0; j < n; ++j) scratch[j] = d_out[j] * weight[j];
    const float c = B::dot(scratch, in, n) * inverse_n * r * r * r;
    for (std::size_t j = 0; j < n; ++j) d_in[j] += r * scratch[j] - c * in[j];
    if (d_weight != nullptr) {
      for (std::size_t j = 0; j < n; ++j) d_weight[j] += d_out[j] * in[j] * r;
    }
  }
}

/// Rotates every head of x (length, heads * head_dim), one sequence from position 0, in place.
inline void rope_forward(const model::rope_table& table, matrix_view<float> x) noexcept {
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (std::size_t head = 0; head < x.cols; head += table.head_dim()) {
      table.rotate(x.row(t) + head, t);
    }
  }
}

/// The inverse rotation, in place on the gradient.
inline void rope_backward(const model::rope_table& table, matrix_view<float> dx) noexcept {
  for (std::size_t t = 0; t < dx.rows; ++t) {
    for (std::size_t head = 0; head < dx.cols; head += table.head_dim()) {
      table.rotate_back(dx.row(t) + head, t);
    }
  }
}

/// y = gate * sigmoid(gate) * up, row by row.
template <kernel_backend B>
void silu_mul_forward(matrix_view<const float> gate, matrix_view<const float> up,
                      matrix_view<float> y) noexcept {
  for (std::size_t t = 0; t < y.rows; ++t) B::silu_mul(gate.row(t), up.row(t), y.row(t), y.cols);
}

/// With s = sigmoid(gate): d_gate = dy up s (1 + gate (1 - s)), d_up = dy gate s, row by row.
template <kernel_backend B>
void silu_mul_backward(matrix_view<const float> gate, matrix_view<const float> up,
                       matrix_view<const float> dy, matrix_view<float> d_gate,
                       matrix_view<float> d_up) noexcept {
  for (std::size_t t = 0; t < dy.rows; ++t) {
    B::silu_mul_backward(gate.row(t), up.row(t), dy.row(t), d_gate.row(t), d_up.row(t), dy.cols);
  }
}

}  // namespace crayon::train
