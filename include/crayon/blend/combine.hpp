// SPDX-License-Identifier: MIT
// Linear combinations of the ranks of several adapters.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>

namespace crayon::blend {

/// b = [B_1 B_2 ...] M_b^T and a = M_a [A_1; A_2; ...] at one site, sums in f32, rounded once.
/// Keeps its memory.
template <kernel_backend B, element E>
class combination {
 public:
  /// `slots` in the order of the columns of m_b and m_a, both (rank, sum of their ranks); b (out,
  /// rank), a (rank, in). False: a result is not finite in E.
  template <factor_source P>
  [[nodiscard]] bool apply(const P& source, std::size_t site, std::span<const std::size_t> slots,
                           matrix_view<const float> m_b, matrix_view<const float> m_a,
                           matrix_view<E> b, matrix_view<E> a) {
    const std::size_t rank = a.rows;
    sum_.resize(rank * std::max(a.cols, b.rows));
    const matrix_view<float> for_a(sum_.data(), rank, a.cols), for_b(sum_.data(), rank, b.rows);
    bool finite = true;
    each(source, site, slots, m_a, a.cols, [&](auto slot, auto m, bool more) {
      const matrix_view<E> factor(factor_.data(), m.cols, a.cols);
      source.copy_a(slot, site, factor);
      B::gemm_nn(m, matrix_view<const E>(factor), for_a, more);
    });
    for (std::size_t j = 0; j < a.size(); ++j) {
      a.data[j] = from_float<E>(sum_[j]);
      finite &= is_finite(a.data[j]);
    }
    each(source, site, slots, m_b, b.rows, [&](auto slot, auto m, bool more) {
      const matrix_view<E> factor(factor_.data(), b.rows, m.cols);
      source.copy_b(slot, site, factor);
      B::gemm_nt(m, matrix_view<const E>(factor), for_b, more);
    });
    for (std::size_t r = 0; r < b.rows; ++r) {
      for (std::size_t c = 0; c < rank; ++c) {
        b.row(r)[c] = from_float<E>(for_b.row(c)[r]);
        finite &= is_finite(b.row(r)[c]);
      }
    }
    return finite;
  }

 private:
  static bool is_finite(E e) noexcept { return to_float(e) - to_float(e) == 0; }

  template <class P, class Add>
  void each(const P& source, std::size_t site, std::span<const std::size_t> slots,
            matrix_view<const float> m, std::size_t side, Add add) {
    std::size_t first = 0;
    for (const std::size_t slot : slots) {
      const std::size_t rank = source.rank(slot, site);
      if (rank == 0) continue;
      factor_.resize(std::max(factor_.size(), rank * side));
      add(slot, matrix_view<const float>(m.data + first, m.rows, rank, m.stride), first > 0);
      first += rank;
    }
    if (first == 0) std::fill(sum_.begin(), sum_.end(), 0.0F);
  }

  aligned_vector<float> sum_;
  aligned_vector<E> factor_;
};

}  // namespace crayon::blend
