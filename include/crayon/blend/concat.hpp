// SPDX-License-Identifier: MIT
// The exact blend as one adapter: A = [A_1; A_2; ...], B = [w_1 s_1 B_1, w_2 s_2 B_2, ...].
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::blend {

/// Exact to one rounding of B (a zero may lose its sign). The rank of a site is the sum of the
/// ranks there, its scale 1; adapters of weight zero take no part. A site where nothing is left
/// gets rank 1 and zeros, because no reader of adapters accepts rank 0.
template <kernel_backend B = simd::scalar>
struct basic_concat {
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "concat"; }

  /// What `blend` gives: the sites in the order of the pool.
  template <factor_source P>
  [[nodiscard]] static std::vector<adapter::site_shape> shapes(
      const P& pool, std::span<const weighted_slot> weights) {
    std::vector<adapter::site_shape> sites;
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      std::size_t rank = 0;
      for (const auto& [slot, weight] : weights) rank += weight == 0 ? 0 : pool.rank(slot, i);
      sites.push_back({std::string(pool.module(i)), pool.out(i), pool.in(i), rank == 0 ? 1 : rank,
                       1.0F, pool.kind(i)});
    }
    return sites;
  }

  /// Blocks of factors are spread over the executor's threads.
  template <factor_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<adapter::lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights, X&& threads = X{}) {
    CRAYON_CHECK(check_weights(pool.size(), weights));
    adapter::lora_adapter<typename P::element_type> out(shapes(pool, weights));
    CRAYON_CHECK(blend_into(pool, weights, out, threads));
    return out;
  }

  /// The same into an adapter of exactly those shapes; allocates nothing. After an error its
  /// content is unspecified.
  template <factor_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<void> blend_into(const P& pool,
                                               std::span<const weighted_slot> weights,
                                               adapter::lora_adapter<typename P::element_type>& out,
                                               X&& threads = X{}) {
    CRAYON_CHECK(check_weights(pool.size(), weights));
    CRAYON_CHECK(check_target(pool, weights, out));
    std::size_t all = 0;
    for (std::size_t i = 0; i < pool.sites(); ++i) all += blocks(pool, out, i);
    std::atomic<std::size_t> bad{none};  // the first site * adapters + weight that does not fit E
    const std::size_t parts = threads.concurrency();
    threads.parallel_for(parts, [&](std::size_t part) {
      const auto mine = part_of(all, part, parts);
      std::size_t before = 0;
      for (std::size_t i = 0; i < pool.sites() && before < mine.second; ++i) {
        const std::size_t count = blocks(pool, out, i);
        for (std::size_t t = std::max(mine.first, before);
             t < std::min(mine.second, before + count); ++t) {
          const std::size_t k = join(pool, weights, out, i, t - before);
          if (k == none) continue;
          const std::size_t found = i * weights.size() + k;
          for (auto first = bad.load();
               found < first && !bad.compare_exchange_weak(first, found);) {
          }
        }
        before += count;
      }
    });
    if (bad == none) return {};
    const std::size_t i = bad / weights.size();
    const auto [slot, weight] = weights[bad % weights.size()];
    return error{errc::bad_value,
                 "adapter " + std::to_string(slot) + " times " +
                     std::to_string(weight * pool.scale(slot, i)) + " is too large for " +
                     std::string(crayon::name(dtype_of<typename P::element_type>)) + " at " +
                     std::string(pool.module(i))};
  }

 private:
  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t block = 1024;  // elements; of an interleaved source, its tile

  /// Steps that site i is made in: one block of A and of B of every adapter in each.
  template <factor_source P>
  static std::size_t blocks(const P& pool,
                            const adapter::lora_adapter<typename P::element_type>& out,
                            std::size_t i) {
    const std::size_t longest = out.shape(i).rank * std::max(pool.in(i), pool.out(i));
    if constexpr (interleaved_source<P>) {
      return std::max(pool.a(i).tiles(), pool.b(i).tiles());
    } else if constexpr (viewed<P>) {
      return (longest + block - 1) / block;
    } else {
      return 1;
    }
  }
  template <class P>
  static constexpr bool viewed = requires(const P& p, std::size_t i) {
    { p.factors(i, i) } -> std::same_as<factors_view<typename P::element_type>>;
  };

  /// Step t of site i. Returns the first of the weights whose factors do not fit E, or `none`.
  template <factor_source P>
  static std::size_t join(const P& pool, std::span<const weighted_slot> weights,
                          adapter::lora_adapter<typename P::element_type>& out, std::size_t i,
                          std::size_t t) {
    using E = typename P::element_type;
    const matrix_view<E> a = out.a(i), b = out.b(i);
    std::size_t first = 0, bad = none;
    for (std::size_t k = 0; k < weights.size(); ++k) {
      const auto [slot, weight] = weights[k];
      const std::size_t rank = weight == 0 ? 0 : pool.rank(slot, i);
      if (rank == 0) continue;
      const float scale = weight * pool.scale(slot, i);
      const matrix_view<E> rows = a.rows_from(first, rank);
      const matrix_view<E> columns(b.data + first, b.rows, rank, b.stride);
      first += rank;
      bool fits = true;
      if constexpr (interleaved_source<P>) {
        const auto from_a = pool.a(i), from_b = pool.b(i);
        if (t < from_a.tiles()) {
          std::copy_n(from_a.at(t, slot), from_a.length(t), rows.data + t * from_a.tile);
        }
        if (t < from_b.tiles()) {
          const std::size_t n = from_b.length(t);
          fits = scatter(scale, from_b.at(t, slot), n, t * from_b.tile, columns);
        }
      } else if constexpr (viewed<P>) {
        const factors_view<E> from = pool.factors(slot, i);
        const std::size_t begin = t * block;
        if (begin < from.a.size()) {
          std::copy_n(from.a.data + begin, std::min(block, from.a.size() - begin),
                      rows.data + begin);
        }
        if (begin < from.b.size()) {
          const std::size_t n = std::min(block, from.b.size() - begin);
          fits = scatter(scale, from.b.data + begin, n, begin, columns);
        }
      } else {
        pool.copy_a(slot, i, rows);
        pool.copy_b(slot, i, columns);
        for (std::size_t r = 0; r < columns.rows; ++r) {
          fits &= scatter(scale, columns.row(r), rank, r * rank, columns);
        }
      }
      if (!fits && bad == none) bad = k;
    }
    if (first == 0 && t == 0) {
      std::fill_n(a.data, a.size(), from_float<E>(0));
      std::fill_n(b.data, b.size(), from_float<E>(0));
    }
    return bad;
  }

  /// `n` elements of B (out, rank), the first being element `begin`, scaled into the columns of the
  /// larger matrix that are theirs. False: a product is infinite or NaN.
  template <element E>
  static bool scatter(float scale, const E* from, std::size_t n, std::size_t begin,
                      matrix_view<E> columns) noexcept {
    constexpr std::size_t most = 256;
    static constexpr std::array<float, most> zeros{};
    alignas(alignment) std::array<E, most> scaled;
    bool fits = true;
    for (; n > 0;) {
      const std::size_t count = std::min(n, most);
      B::weighted_sum(weighted_rows<E>{&scale, &from, 1}, scaled.data(), count);
      fits &= B::dot(scaled.data(), zeros.data(), count) == 0;  // infinity times 0 is NaN
      switch (columns.cols * sizeof(E)) {
        case 16:
          put<16 / sizeof(E)>(scaled.data(), count, begin, columns);
          break;
        case 32:
          put<32 / sizeof(E)>(scaled.data(), count, begin, columns);
          break;
        case 64:
          put<64 / sizeof(E)>(scaled.data(), count, begin, columns);
          break;
        default:
          put<0>(scaled.data(), count, begin, columns);
      }
      from += count;
      begin += count;
      n -= count;
    }
    return fits;
  }

  /// Rank > 0: that of `columns`, so that a row is one or two vectors.
  template <std::size_t Rank, element E>
  static void put(const E* from, std::size_t n, std::size_t begin,
                  matrix_view<E> columns) noexcept {
    std::size_t row = begin / columns.cols, column = begin % columns.cols;
    for (std::size_t j = 0; j < n;) {
      E* to = columns.row(row) + column;
      const std::size_t count = std::min(columns.cols - column, n - j);
      if (Rank != 0 && count == Rank) {
        std::memcpy(to, from + j, Rank * sizeof(E));
      } else {
        std::copy_n(from + j, count, to);
      }
      j += count;
      column = 0;
      ++row;
    }
  }

  template <factor_source P>
  static result<void> check_target(const P& pool, std::span<const weighted_slot> weights,
                                   const adapter::lora_adapter<typename P::element_type>& out) {
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      std::size_t rank = 0;
      for (const auto& [slot, weight] : weights) rank += weight == 0 ? 0 : pool.rank(slot, i);
      const bool fits = out.size() == pool.sites() && out.module(i) == pool.module(i) &&
                        out.shape(i).out == pool.out(i) && out.shape(i).in == pool.in(i) &&
                        out.shape(i).rank == (rank == 0 ? 1 : rank) && out.shape(i).scale == 1 &&
                        out.shape(i).kind == pool.kind(i);
      if (!fits) {
        return error{
            errc::bad_shape,
            "the adapter to blend into does not have the shapes of this blend: " +
                (out.size() != pool.sites()
                     ? std::to_string(out.size()) + " sites, needs " + std::to_string(pool.sites())
                     : adapter::describe(out.shape(i)) + ", needs " +
                           adapter::describe(shapes(pool, weights)[i]))};
      }
    }
    return {};
  }
};

using concat = basic_concat<>;
static_assert(factor_source<adapter::pool<float>>);
static_assert(blend_policy<concat, adapter::pool<float>>);

}  // namespace crayon::blend
