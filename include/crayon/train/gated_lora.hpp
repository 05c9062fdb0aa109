// SPDX-License-Identifier: MIT
// A weighted set of adapters at one linear layer, with other weights for each sequence.
#pragma once

#include <cstddef>

#include <crayon/concepts.hpp>
#include <crayon/train/batch.hpp>
#include <crayon/train/lora_factors.hpp>

namespace crayon::train {

namespace detail {

/// u (rows, total): row t times the gate of its sequence, w_i * scale on the channels of adapter i.
/// `weights` (sequences of the whole batch, N). `gate` has site.total floats.
inline void gate_rows(const lora_site& site, const batch_view& batch,
                      matrix_view<const float> weights, matrix_view<float> u,
                      float* CRAYON_RESTRICT gate) noexcept {
  for (std::size_t s = 0; s < batch.sequences(); ++s) {
    const float* w = weights.row(batch.first_sequence + s);
    for (std::size_t c = 0; c < site.total; ++c) gate[c] = site.scale * w[c / site.rank];
    for (std::size_t t = batch.begin(s); t < batch.begin(s) + batch.length(s); ++t) {
      float* CRAYON_RESTRICT row = u.row(t);
      for (std::size_t c = 0; c < site.total; ++c) row[c] *= gate[c];
    }
  }
}

}  // namespace detail

/// y += ((x A_cat^T) * gate) B_cat^T: the exact sum_i w_i scale B_i A_i x of each sequence.
/// x (rows, in), y (rows, out); `gated` (rows, total) is kept for the backward pass.
template <kernel_backend B>
void gated_lora_forward(const lora_site& site, const float* factors, const batch_view& batch,
                        matrix_view<const float> weights, matrix_view<const float> x,
                        matrix_view<float> gated, matrix_view<float> y, float* gate) noexcept {
  CRAYON_ASSERT(x.rows == gated.rows && x.rows == y.rows);
  const matrix_view<const float> a(factors + site.a, site.total, site.in);
  const matrix_view<const float> b(factors + site.b, site.out, site.total);
  B::gemm_nt(x, a, gated, false);
  detail::gate_rows(site, batch, weights, gated, gate);
  B::gemm_nt(matrix_view<const float>(gated), b, y, true);
}

/// dB += dy^T gated, du = (dy B) * gate, dA += du^T x, dx += du A. `dx` may be empty; `du`
/// (rows, total) is scratch.
template <kernel_backend B>
void gated_lora_backward(const lora_site& site, const float* factors, const batch_view& batch,
                         matrix_view<const float> weights, matrix_view<const float> x,
                         matrix_view<const float> gated, matrix_view<const float> dy,
                         matrix_view<float> dx, float* d_factors, matrix_view<float> du,
                         float* gate) noexcept {
  CRAYON_ASSERT(x.rows == gated.rows && x.rows == dy.rows && x.rows == du.rows);
  const matrix_view<const float> a(factors + site.a, site.total, site.in);
  const matrix_view<const float> b(factors + site.b, site.out, site.total);
  B::gemm_tn(dy, gated, matrix_view<float>(d_factors + site.b, site.out, site.total), true);
  B::gemm_nn(dy, b, du, false);
  detail::gate_rows(site, batch, weights, du, gate);
  const matrix_view<const float> du_in = du;
  B::gemm_tn(du_in, x, matrix_view<float>(d_factors + site.a, site.total, site.in), true);
  if (!dx.empty()) B::gemm_nn(du_in, a, dx, true);
}

}  // namespace crayon::train
