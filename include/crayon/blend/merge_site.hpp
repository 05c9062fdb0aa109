// SPDX-License-Identifier: MIT
// One site of a merge: W (rows, cols) += U (rows, R) V (R, cols), R the sum of the ranks.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include <crayon/blend/finite.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/executor.hpp>

namespace crayon::blend {

/// Sum of the ranks of the adapters that take part at a site.
template <factor_source P>
[[nodiscard]] std::size_t rank_at(const P& pool, std::span<const weighted_slot> weights,
                                  std::size_t site) {
  std::size_t rank = 0;
  for (const auto& [slot, weight] : weights) rank += weight == 0 ? 0 : pool.rank(slot, site);
  return rank;
}

/// Memory that is reused from site to site: the factors of the largest site as f32, and a block of
/// W per thread where W is not f32.
template <kernel_backend B, element E>
class merge_site {
 public:
  explicit merge_site(std::size_t threads) : parts_(threads), blocks_(threads), good_(threads) {}

  /// U = [w_1 s_1 B_1, ...], V = [A_1; ...]; of a transposed matrix U = A^T and V = B^T.
  template <factor_source P>
  void gather(const P& pool, std::span<const weighted_slot> weights, std::size_t site,
              bool transposed) {
    using F = typename P::element_type;
    const std::size_t out = pool.out(site), in = pool.in(site);
    const std::size_t rows = transposed ? in : out, cols = transposed ? out : in;
    rank_ = rank_at(pool, weights, site);
    u_.resize(std::max(u_.size(), rows * rank_));
    v_.resize(std::max(v_.size(), rank_ * cols));
    const matrix_view<float> u(u_.data(), rows, rank_), v(v_.data(), rank_, cols);
    aligned_vector<F> stored;
    std::size_t first = 0;
    for (const auto& [slot, weight] : weights) {
      const std::size_t rank = weight == 0 ? 0 : pool.rank(slot, site);
      if (rank == 0) continue;
      const float scale = weight * pool.scale(slot, site);
      stored.resize(rank * std::max(in, out));
      const matrix_view<F> a(stored.data(), rank, in), b(stored.data(), out, rank);
      pool.copy_a(slot, site, a);
      for (std::size_t r = 0; r < rank; ++r) {
        for (std::size_t i = 0; i < in; ++i) {
          (transposed ? u.row(i)[first + r] : v.row(first + r)[i]) = to_float(a.row(r)[i]);
        }
      }
      pool.copy_b(slot, site, b);
      for (std::size_t o = 0; o < out; ++o) {
        for (std::size_t r = 0; r < rank; ++r) {
          (transposed ? v.row(first + r)[o] : u.row(o)[first + r]) = scale * to_float(b.row(o)[r]);
        }
      }
      first += rank;
    }
  }

  /// W += U V, block by block while a block is in the cache; `original` (rows * cols), if not null,
  /// gets what W held. False: a result is not finite (all of W is changed nevertheless).
  template <class X>
  [[nodiscard]] bool add(matrix_view<E> w, E* original, X& threads) {
    const matrix_view<const float> u(u_.data(), w.rows, rank_), v(v_.data(), rank_, w.cols);
    // 2^15 elements: 128 KB of f32, so that W's block, its sums and V share a second-level cache
    // (with 2^17 f32 takes half as long again). What bounds a merge is the product: 2 R operations
    // per weight. On a Zen 4 core of 83 GFLOP/s and a line of 42 GB/s read and written, 122M
    // weights take 51 ms in f32, 63 in bf16, 75 in f16 at R = 8 (product 24, line 21 and 10), and
    // 190 to 205 at R = 64 (product 190).
    const std::size_t block = std::clamp<std::size_t>((std::size_t{1} << 15) / w.cols, 8, 256);
    for (auto& b : blocks_) {
      if (!std::is_same_v<E, float>) b.resize(std::max(b.size(), block * w.cols));
    }
    threads.parallel_for(parts_, [&](std::size_t part) {
      const auto [begin, end] = part_of(w.rows, part, parts_, 8);
      bool good = true;
      for (std::size_t r = begin; r < end; r += block) {
        const std::size_t count = std::min(block, end - r);
        const matrix_view<E> rows = w.rows_from(r, count);
        for (std::size_t j = 0; original != nullptr && j < count; ++j) {
          std::copy_n(rows.row(j), w.cols, original + (r + j) * w.cols);
        }
        if (original == nullptr) touch(rows);
        good &= add_rows(rows, u.rows_from(r, count), v, blocks_[part].data());
      }
      good_[part] = good ? 1 : 0;
    });
    return std::all_of(good_.begin(), good_.end(), [](char good) { return good != 0; });
  }

 private:
  /// Asks for every line of a block in order: the product below goes over it in narrow columns,
  /// which the hardware does not foresee (2.3 GHz Xeon: twice as fast with this).
  static void touch(matrix_view<const E> w) noexcept {
    for (std::size_t r = 0; r < w.rows; ++r) {
      for (std::size_t c = 0; c < w.cols; c += 64 / sizeof(E)) __builtin_prefetch(w.row(r) + c);
    }
  }

  /// Rounds once; false: a value is not finite before or after. Without from_float's branches, so
  /// that compilers make vectors of it (f16: 5 times as fast).
  [[nodiscard]] static bool narrow(const float* CRAYON_RESTRICT from, E* CRAYON_RESTRICT to,
                                   std::size_t count) noexcept {
    std::uint32_t bad = 0;
    for (std::size_t c = 0; c < count; ++c) {
      if constexpr (std::is_same_v<E, bf16>) {
        const auto bits = std::bit_cast<std::uint32_t>(from[c]);
        const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
        bad |= (bits & 0x7F800000U) == 0x7F800000U ? 1U : 0U;
        bad |= (rounded & 0x7F80U) == 0x7F80U ? 1U : 0U;
        to[c] = E{static_cast<std::uint16_t>(rounded)};
      } else {
        const auto bits = std::bit_cast<std::uint32_t>(from[c]);
        const std::uint32_t sign = (bits >> 16) & 0x8000U, magnitude = bits & 0x7FFFFFFFU;
        bad |= magnitude >= 0x477FF000U ? 1U : 0U;
        const std::uint32_t small =
            std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F000000U;
        const std::uint32_t normal =
            (magnitude + 0xFFFU + ((magnitude >> 13) & 1U) - (112U << 23)) >> 13;
        to[c] = E{static_cast<std::uint16_t>(sign | (magnitude < 0x38800000U ? small : normal))};
      }
    }
    return bad == 0;
  }

  [[nodiscard]] static bool add_rows(matrix_view<E> w, matrix_view<const float> u,
                                     matrix_view<const float> v, float* scratch) noexcept {
    bool good = true;
    if constexpr (std::is_same_v<E, float>) {
      B::gemm_nn(u, v, w, true);
      std::uint32_t carries = 0;  // into the sign, where all bits of an exponent are ones
      for (std::size_t r = 0; r < w.rows; ++r) {
        for (std::size_t c = 0; c < w.cols; ++c) {
          carries |= (std::bit_cast<std::uint32_t>(w.row(r)[c]) & 0x7F800000U) + 0x00800000U;
        }
      }
      good = (carries >> 31) == 0;
    } else {
      const matrix_view<float> sum(scratch, w.rows, w.cols);
      for (std::size_t r = 0; r < w.rows; ++r) {
        if constexpr (std::is_same_v<E, f16>) {  // the kernel converts many at once
          std::fill_n(sum.row(r), w.cols, 0.0F);
          B::axpy(1, w.row(r), sum.row(r), w.cols);
        } else {
          for (std::size_t c = 0; c < w.cols; ++c) sum.row(r)[c] = to_float(w.row(r)[c]);
        }
      }
      B::gemm_nn(u, v, sum, true);
      for (std::size_t r = 0; r < w.rows; ++r) {
        good &= narrow(sum.row(r), w.row(r), w.cols);
      }
    }
    return good;
  }

  std::size_t parts_;
  std::size_t rank_ = 0;
  aligned_vector<float> u_, v_;
  std::vector<aligned_vector<float>> blocks_;
  std::vector<char> good_;  // one per part
};

}  // namespace crayon::blend
