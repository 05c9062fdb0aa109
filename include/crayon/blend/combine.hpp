// SPDX-License-Identifier: MIT
// Linear combinations of the ranks of several adapters.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include <crayon/adapter/interleaved_view.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>

namespace crayon::blend {

/// No infinity and no NaN. In integers: compilers make vectors of it without any -m flag.
template <element E>
[[nodiscard]] bool all_finite(const E* values, std::size_t count) noexcept {
  if constexpr (std::is_same_v<E, float>) {
    bool finite = true;
    for (std::size_t j = 0; j < count; ++j) finite &= values[j] - values[j] == 0;
    return finite;
  } else {
    std::int16_t largest = 0;  // magnitudes are ordered as their bits are
    for (std::size_t j = 0; j < count; ++j) {
      largest = std::max(largest, static_cast<std::int16_t>(values[j].bits & 0x7FFF));
    }
    return largest < (std::is_same_v<E, bf16> ? 0x7F80 : 0x7C00);
  }
}

/// b = [B_1 B_2 ...] M_b^T and a = M_a [A_1; A_2; ...] at one site, sums in f32, rounded once. The
/// tiles of an interleaved pool are read where they are, once, and adapters that are not named not
/// at all. Keeps its memory.
template <kernel_backend B, element E>
class combination {
 public:
  /// `slots` in the order of the columns of m_b and m_a, both (rank, sum of their ranks); b (out,
  /// rank), a (rank, in). False: a result is not finite in E.
  template <factor_source P>
  [[nodiscard]] bool apply(const P& source, std::size_t site, std::span<const std::size_t> slots,
                           matrix_view<const float> m_b, matrix_view<const float> m_a,
                           matrix_view<E> b, matrix_view<E> a) {
    bool a_done = false, b_done = false;
    if constexpr (interleaved_source<P>) {
      if (!slots.empty()) {
        a_done = sum_tiles(source.a(site), slots, m_a, a);
        b_done = multiply_tiles(source.b(site), slots, m_b, b);
      }
    }
    sum_.resize(std::max(a_done ? 0 : a.size(), b_done ? 0 : b.size()));
    if (!a_done) sum_copies(source, site, slots, m_a, a);
    if (!b_done) multiply_copies(source, site, slots, m_b, b);
    return all_finite(a.data, a.size()) && all_finite(b.data, b.size());
  }

 private:
  /// A: each row of each slot is a row of tiles, if rows start where tiles do.
  bool sum_tiles(adapter::interleaved_view<const E> from, std::span<const std::size_t> slots,
                 matrix_view<const float> m, matrix_view<E> a) {
    const std::size_t rank = from.elements / a.cols, columns = rank * slots.size();
    if (a.cols % from.tile != 0 || columns != m.cols) return false;
    rows_.resize(columns);
    transpose(m);
    const std::size_t tiles = a.cols / from.tile;
    for (std::size_t c = 0; c < columns; ++c) {
      rows_[c] = from.at(c % rank * tiles, slots[c / rank]);
    }
    B::weighted_sums(
        weighted_tiles<E>{weight_.data(), rows_.data(), columns, from.tile, from.count * from.tile},
        a.rows, a.data, a.stride, a.cols);
    return true;
  }

  /// B: each tile is some whole rows, if their length divides it.
  bool multiply_tiles(adapter::interleaved_view<const E> from, std::span<const std::size_t> slots,
                      matrix_view<const float> m, matrix_view<E> b) {
    const std::size_t rank = from.elements / b.rows, columns = rank * slots.size();
    if (from.tile % rank != 0 || columns != m.cols || !b.contiguous()) return false;
    rows_.resize(slots.size());
    transpose(m);
    scratch_.resize(std::max(scratch_.size(), columns * (m.rows + 32)));
    for (std::size_t k = 0; k < slots.size(); ++k) rows_[k] = from.at(0, slots[k]);
    B::weighted_row_sums(weighted_tiles<E>{weight_.data(), rows_.data(), slots.size(), from.tile,
                                           from.count * from.tile},
                         rank, b.cols, b.data, from.elements, scratch_.data());
    return true;
  }

  void transpose(matrix_view<const float> m) {
    weight_.resize(m.size());
    for (std::size_t r = 0; r < m.rows; ++r) {
      for (std::size_t c = 0; c < m.cols; ++c) weight_[c * m.rows + r] = m.row(r)[c];
    }
  }

  template <class P>
  void sum_copies(const P& source, std::size_t site, std::span<const std::size_t> slots,
                  matrix_view<const float> m, matrix_view<E> a) {
    const matrix_view<float> sum(sum_.data(), a.rows, a.cols);
    each(source, site, slots, m, a.cols, sum, [&](auto slot, auto part, bool more) {
      const matrix_view<E> factor(factor_.data(), part.cols, a.cols);
      source.copy_a(slot, site, factor);
      B::gemm_nn(part, matrix_view<const E>(factor), sum, more);
    });
    for (std::size_t j = 0; j < a.size(); ++j) a.data[j] = from_float<E>(sum_[j]);
  }

  template <class P>
  void multiply_copies(const P& source, std::size_t site, std::span<const std::size_t> slots,
                       matrix_view<const float> m, matrix_view<E> b) {
    const matrix_view<float> sum(sum_.data(), b.cols, b.rows);
    each(source, site, slots, m, b.rows, sum, [&](auto slot, auto part, bool more) {
      const matrix_view<E> factor(factor_.data(), b.rows, part.cols);
      source.copy_b(slot, site, factor);
      B::gemm_nt(part, matrix_view<const E>(factor), sum, more);
    });
    for (std::size_t r = 0; r < b.rows; ++r) {
      for (std::size_t c = 0; c < b.cols; ++c) b.row(r)[c] = from_float<E>(sum.row(c)[r]);
    }
  }

  /// add(slot, its columns of m, whether something is in the sum).
  template <class P, class Add>
  void each(const P& source, std::size_t site, std::span<const std::size_t> slots,
            matrix_view<const float> m, std::size_t side, matrix_view<float> sum, Add add) {
    std::size_t first = 0;
    for (const std::size_t slot : slots) {
      const std::size_t rank = source.rank(slot, site);
      if (rank == 0) continue;
      factor_.resize(std::max(factor_.size(), rank * side));
      add(slot, matrix_view<const float>(m.data + first, m.rows, rank, m.stride), first > 0);
      first += rank;
    }
    if (first == 0) std::fill_n(sum.data, sum.size(), 0.0F);
  }

  std::vector<const E*> rows_;
  aligned_vector<float> weight_, scratch_, sum_;
  aligned_vector<E> factor_;
};

}  // namespace crayon::blend
