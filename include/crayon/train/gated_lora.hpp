// SPDX-License-Identifier: MIT
// A weighted set of adapters at one linear layer, with other weights for each sequence.
#pragma once

#include <cstddef>
#include <span>

#include <crayon/concepts.hpp>
#include <crayon/train/batch.hpp>
#include <crayon/train/dropout.hpp>
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

/// The mask of one adapted site over the rows of a pass.
struct site_dropout {
  adapter_dropout mask;
  std::size_t site = 0;                    ///< llama_config::site
  std::size_t first_row = 0;               ///< of the pass, counted from the whole batch
  std::span<const std::size_t> rows = {};  ///< which rows of the pass these are; empty: all
  float* dropped = nullptr;                ///< scratch: (rows, in)

  [[nodiscard]] bool on() const noexcept { return mask.on(); }

  /// y = the mask times x, or y += it; both (rows, in).
  template <bool Add>
  void apply(matrix_view<const float> x, matrix_view<float> y) const noexcept {
    for (std::size_t t = 0; t < x.rows; ++t) {
      mask.apply<Add>(site, first_row + (rows.empty() ? t : rows[t]), x.row(t), y.row(t), x.cols);
    }
  }

  /// What A reads.
  [[nodiscard]] matrix_view<const float> input(matrix_view<const float> x) const noexcept {
    if (!on()) return x;
    const matrix_view<float> kept(dropped, x.rows, x.cols);
    apply<false>(x, kept);
    return kept;
  }
};

/// gated = gate(x A_cat^T), the first half of the forward pass.
template <kernel_backend B>
void gated_lora_rows(const lora_site& site, const float* factors, const batch_view& batch,
                     matrix_view<const float> weights, matrix_view<const float> x,
                     matrix_view<float> gated, float* gate, const site_dropout& dropout) noexcept {
  const matrix_view<const float> a(factors + site.a, site.total, site.in);
  B::gemm_nt(dropout.input(x), a, gated, false);
  detail::gate_rows(site, batch, weights, gated, gate);
}

/// y += gate(x A_cat^T) B_cat^T: for each sequence the exact sum_i w_i scale B_i A_i x, or that of
/// averaged factors. x (rows, in), y (rows, out); `gated` (rows, total) is kept for the backward
/// pass.
template <kernel_backend B>
void gated_lora_forward(const lora_site& site, const float* factors, const batch_view& batch,
                        matrix_view<const float> weights, matrix_view<const float> x,
                        matrix_view<float> gated, matrix_view<float> y, float* gate,
                        const site_dropout& dropout = {}) noexcept {
  CRAYON_ASSERT(x.rows == gated.rows && x.rows == y.rows);
  const matrix_view<const float> b(factors + site.b, site.total, site.out);
  gated_lora_rows<B>(site, factors, batch, weights, x, gated, gate, dropout);
  B::gemm_nn(matrix_view<const float>(gated), b, y, true);
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
                         float* gate, float* d_gates = nullptr,
                         const site_dropout& dropout = {}) noexcept {
  CRAYON_ASSERT(x.rows == gated.rows && x.rows == dy.rows && x.rows == du.rows);
  const matrix_view<const float> a(factors + site.a, site.total, site.in);
  const matrix_view<const float> b(factors + site.b, site.total, site.out);
  B::gemm_tn(matrix_view<const float>(gated), dy,
             matrix_view<float>(d_factors + site.b, site.total, site.out), true);
  B::gemm_nt(dy, b, du, false);
  if (d_gates != nullptr) detail::add_products(site, batch, du, gated, d_gates);
  detail::gate_rows(site, batch, weights, du, gate);
  const matrix_view<const float> du_in = du, in = dropout.input(x);
  if (d_gates != nullptr && site.factor_wise) {  // w_i is in B_cat's half and in A_cat's
    B::gemm_nt(in, a, gated, false);
    detail::add_products(site, batch, du, gated, d_gates);
  }
  B::gemm_tn(du_in, in, matrix_view<float>(d_factors + site.a, site.total, site.in), true);
  if (dx.empty()) return;
  if (!dropout.on()) {
    B::gemm_nn(du_in, a, dx, true);
    return;
  }
  const matrix_view<float> d_kept(dropout.dropped, x.rows, x.cols);
  B::gemm_nn(du_in, a, d_kept, false);
  dropout.apply<true>(d_kept, dx);
}

}  // namespace crayon::train
