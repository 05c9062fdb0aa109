// SPDX-License-Identifier: MIT
// A weighted set of adapters at one linear layer, with other weights for each sequence.
#pragma once

#include <cstddef>

#include <crayon/concepts.hpp>
#include <crayon/train/batch.hpp>
#include <crayon/train/lora_factors.hpp>

namespace crayon::train {

namespace detail {

/// u (rows, total): row t times the gate of its sequence. `weights` (sequences of the whole batch,
/// N). The exact sum: channel c of adapter i becomes scale w_i u_ic. Factor by factor:
/// scale w_i sum_j w_j u_jc, which B_cat turns into scale (sum_i w_i B_i)(sum_j w_j A_j) x. Both
/// maps are symmetric, so that gradients pass through the same one. `gate` has site.total floats.
inline void gate_rows(const lora_site& site, const batch_view& batch,
                      matrix_view<const float> weights, matrix_view<float> u,
                      float* CRAYON_RESTRICT gate) noexcept {
  for (std::size_t s = 0; s < batch.sequences(); ++s) {
    const float* w = weights.row(batch.first_sequence + s);
    const std::size_t end = batch.begin(s) + batch.length(s);
    if (site.factor_wise) {
      for (std::size_t t = batch.begin(s); t < end; ++t) {
        float* CRAYON_RESTRICT row = u.row(t);
        for (std::size_t c = 0; c < site.rank; ++c) gate[c] = 0;
        for (std::size_t c = 0; c < site.total; ++c)
          gate[c % site.rank] += w[c / site.rank] * row[c];
        for (std::size_t c = 0; c < site.total; ++c) {
          row[c] = site.scale * w[c / site.rank] * gate[c % site.rank];
        }
      }
      continue;
    }
    for (std::size_t c = 0; c < site.total; ++c) gate[c] = site.scale * w[c / site.rank];
    for (std::size_t t = batch.begin(s); t < end; ++t) {
      float* CRAYON_RESTRICT row = u.row(t);
      for (std::size_t c = 0; c < site.total; ++c) row[c] *= gate[c];
    }
  }
}

/// sums[s, i] += the products of u and v (rows, total) over the rows of sequence s and the channels
/// of adapter i; `sums` (sequences of the whole batch, N).
inline void add_products(const lora_site& site, const batch_view& batch, matrix_view<const float> u,
                         matrix_view<const float> v, float* sums) noexcept {
  const std::size_t adapters = site.total / site.rank;
  for (std::size_t s = 0; s < batch.sequences(); ++s) {
    float* sum = sums + (batch.first_sequence + s) * adapters;
    for (std::size_t t = batch.begin(s); t < batch.begin(s) + batch.length(s); ++t) {
      for (std::size_t c = 0; c < site.total; ++c) sum[c / site.rank] += u(t, c) * v(t, c);
    }
  }
}

}  // namespace detail

/// y += gate(x A_cat^T) B_cat^T: for each sequence the exact sum_i w_i scale B_i A_i x, or that of
/// averaged factors. x (rows, in), y (rows, out); `gated` (rows, total) is kept for the backward
/// pass.
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

/// dB += dy^T gated, du = gate(dy B), dA += du^T x, dx += du A. `dx` may be empty; `du`
/// (rows, total) is scratch, and `gated` may be overwritten. `d_gates` (sequences of the whole
/// batch, N), or null, is added w_i d loss / d w_i: with the factor w_i it is a sum of products of
/// what is there anyway, and the gradient of a softmax needs it with that factor.
template <kernel_backend B>
void gated_lora_backward(const lora_site& site, const float* factors, const batch_view& batch,
                         matrix_view<const float> weights, matrix_view<const float> x,
                         matrix_view<float> gated, matrix_view<const float> dy,
                         matrix_view<float> dx, float* d_factors, matrix_view<float> du,
                         float* gate, float* d_gates = nullptr) noexcept {
  CRAYON_ASSERT(x.rows == gated.rows && x.rows == dy.rows && x.rows == du.rows);
  const matrix_view<const float> a(factors + site.a, site.total, site.in);
  const matrix_view<const float> b(factors + site.b, site.out, site.total);
  B::gemm_tn(dy, matrix_view<const float>(gated),
             matrix_view<float>(d_factors + site.b, site.out, site.total), true);
  B::gemm_nn(dy, b, du, false);
  if (d_gates != nullptr) detail::add_products(site, batch, du, gated, d_gates);
  detail::gate_rows(site, batch, weights, du, gate);
  const matrix_view<const float> du_in = du;
  if (d_gates != nullptr && site.factor_wise) {  // w_i is in B_cat's half and in A_cat's
    B::gemm_nt(x, a, gated, false);
    detail::add_products(site, batch, du, gated, d_gates);
  }
  B::gemm_tn(du_in, x, matrix_view<float>(d_factors + site.a, site.total, site.in), true);
  if (!dx.empty()) B::gemm_nn(du_in, a, dx, true);
}

}  // namespace crayon::train
