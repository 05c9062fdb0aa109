// SPDX-License-Identifier: MIT
// Causal attention of one sequence with grouped heads, forward and backward, through small gemms.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <crayon/concepts.hpp>

namespace crayon::train {

/// Heads h of q share head h / (heads / kv_heads) of k and v.
struct attention_shape {
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;

  [[nodiscard]] std::size_t kv_head(std::size_t head) const noexcept {
    return head / (heads / kv_heads);
  }
};

/// Queries per block: keys beyond a block's last query are not touched, so long sequences cost
/// about half the square. Blocks of 32 were up to 4 % slower (whole steps of 1M parameters, Zen 4).
inline constexpr std::size_t attention_block = 64;

namespace detail {

template <class T>
[[nodiscard]] matrix_view<T> head_of(matrix_view<T> x, std::size_t head, std::size_t head_dim,
                                     std::size_t first, std::size_t count) noexcept {
  return {x.data + first * x.stride + head * head_dim, count, head_dim, x.stride};
}

}  // namespace detail

/// y = softmax(q k^T / sqrt(head_dim), causal) v. q, y (n, heads * head_dim), k, v
/// (n, kv_heads * head_dim); `probabilities` (heads * n, n) is kept for the backward pass.
template <kernel_backend B>
void attention_forward(const attention_shape& shape, matrix_view<const float> q,
                       matrix_view<const float> k, matrix_view<const float> v, float* probabilities,
                       matrix_view<float> y) noexcept {
  const std::size_t n = q.rows, d = shape.head_dim;
  const float scale = 1 / std::sqrt(static_cast<float>(d));
  for (std::size_t head = 0; head < shape.heads; ++head) {
    const std::size_t group = shape.kv_head(head);
    for (std::size_t first = 0; first < n; first += attention_block) {
      const std::size_t count = std::min(attention_block, n - first), keys = first + count;
      const matrix_view<float> p{probabilities + (head * n + first) * n, count, keys, n};
      B::gemm_nt(detail::head_of(q, head, d, first, count), detail::head_of(k, group, d, 0, keys),
                 p, false);
      for (std::size_t i = 0; i < count; ++i) {
        float* row = p.row(i);
        const std::size_t seen = first + i + 1;
        for (std::size_t j = 0; j < seen; ++j) row[j] *= scale;
        B::softmax(row, seen);
        for (std::size_t j = seen; j < keys; ++j) row[j] = 0;
      }
      B::gemm_nn(matrix_view<const float>(p), detail::head_of(v, group, d, 0, keys),
                 detail::head_of(y, head, d, first, count), false);
    }
  }
}

/// dq, dk, dv are overwritten. With P the probabilities: dV = P^T dY, dP = dY V^T,
/// dS = P (dP - rowsum(dP P)) / sqrt(head_dim), dQ = dS K, dK = dS^T Q.
/// `scratch` has attention_block * n floats.
template <kernel_backend B>
void attention_backward(const attention_shape& shape, matrix_view<const float> q,
                        matrix_view<const float> k, matrix_view<const float> v,
                        const float* probabilities, matrix_view<const float> dy,
                        matrix_view<float> dq, matrix_view<float> dk, matrix_view<float> dv,
                        float* scratch) noexcept {
  const std::size_t n = q.rows, d = shape.head_dim;
  const float scale = 1 / std::sqrt(static_cast<float>(d));
  for (std::size_t t = 0; t < n; ++t) {
    std::fill_n(dk.row(t), dk.cols, 0.0F);
    std::fill_n(dv.row(t), dv.cols, 0.0F);
  }
  for (std::size_t head = 0; head < shape.heads; ++head) {
    const std::size_t group = shape.kv_head(head);
    for (std::size_t first = 0; first < n; first += attention_block) {
      const std::size_t count = std::min(attention_block, n - first), keys = first + count;
      const matrix_view<const float> p{probabilities + (head * n + first) * n, count, keys, n};
      const matrix_view<float> ds{scratch, count, keys};
      const auto d_out = detail::head_of(dy, head, d, first, count);
      B::gemm_tn(p, d_out, detail::head_of(dv, group, d, 0, keys), true);
      B::gemm_nt(d_out, detail::head_of(v, group, d, 0, keys), ds, false);
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t seen = first + i + 1;
        B::softmax_backward(scale, p.row(i), ds.row(i), seen);
        std::fill(ds.row(i) + seen, ds.row(i) + keys, 0.0F);
      }
      const matrix_view<const float> ds_in = ds;
      B::gemm_nn(ds_in, detail::head_of(k, group, d, 0, keys),
                 detail::head_of(dq, head, d, first, count), false);
      B::gemm_tn(ds_in, detail::head_of(q, head, d, first, count),
                 detail::head_of(dk, group, d, 0, keys), true);
    }
  }
}

}  // namespace crayon::train
