// SPDX-License-Identifier: MIT
// The exact blend as one adapter: A = [A_1; A_2; ...], B = [w_1 s_1 B_1, w_2 s_2 B_2, ...].
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/columns.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::blend {

/// Exact to one rounding of B. The rank of a site is the sum of the
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
    CRAYON_CHECK(check_weights(pool, weights));
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
    CRAYON_CHECK(check_weights(pool, weights));
    CRAYON_CHECK(check_target(pool, weights, out));
    std::size_t all = 0;
    for (std::size_t i = 0; i < pool.sites(); ++i) all += blocks(pool, out, i);
    std::atomic<std::size_t> bad{none};  // the first site * adapters + weight that does not fit E
    const bool past_caches = out.bytes() >= stream_from;
    const std::size_t parts = threads.concurrency();
    threads.parallel_for(parts, [&](std::size_t part) {
      const auto mine = part_of(all, part, parts);
      std::size_t before = 0;
      for (std::size_t i = 0; i < pool.sites() && before < mine.second; ++i) {
        const std::size_t count = blocks(pool, out, i);
        const std::size_t first = std::max(mine.first, before) - before;
        const std::size_t last = std::min(mine.second, before + count) - before;
        before += count;
        if (mine.first >= before) continue;
        const std::size_t k = join(pool, weights, out, i, first, last, past_caches);
        if (k == none) continue;
        const std::size_t found = i * weights.size() + k;
        for (auto least = bad.load(); found < least && !bad.compare_exchange_weak(least, found);) {
        }
      }
    });
    if (bad == none) return {};
    const std::size_t i = bad / weights.size();
    const auto [slot, weight] = weights[bad % weights.size()];
    return error{errc::bad_value,
                 who(pool, slot) + " times " + std::to_string(weight * pool.scale(slot, i)) +
                     " is too large for " +
                     std::string(crayon::name(dtype_of<typename P::element_type>)) + " at " +
                     std::string(pool.module(i))};
  }

 private:
  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t block = 1024;  // elements; of an interleaved source, its tile
  static constexpr std::size_t stream_from = std::size_t{4} << 20;  // bytes, as in `linear`

  /// Steps that site i is made in: one block of A and of B of every adapter in each.
  template <factor_source P>
  static std::size_t blocks(const P& pool,
                            const adapter::lora_adapter<typename P::element_type>& out,
                            std::size_t i) {
    const std::size_t longest = out.shape(i).rank * std::max(pool.in(i), pool.out(i));
    if constexpr (interleaved_source<P>) {
      const auto [of_a, of_b] = tiles_at(pool, i);
      return std::max(of_a, of_b);
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

  /// Steps [first, last) of site i. Returns the first of the weights whose factors do not fit E, or
  /// `none`.
  template <factor_source P>
  static std::size_t join(const P& pool, std::span<const weighted_slot> weights,
                          adapter::lora_adapter<typename P::element_type>& out, std::size_t i,
                          std::size_t first, std::size_t last, bool past_caches) {
    using E = typename P::element_type;
    const matrix_view<E> a = out.a(i), b = out.b(i);
    std::size_t row = 0, bad = none;
    for (std::size_t k = 0; k < weights.size(); ++k) {
      const auto [slot, weight] = weights[k];
      const std::size_t rank = weight == 0 ? 0 : pool.rank(slot, i);
      if (rank == 0) continue;
      const float scale = weight * pool.scale(slot, i);
      const matrix_view<E> rows = a.rows_from(row, rank);
      const matrix_view<E> columns(b.data + row, b.rows, rank, b.stride);
      row += rank;
      bool fits = true;
      if constexpr (interleaved_source<P>) {
        const auto from = pool.a(i);
        if (first < from.tiles()) {
          const std::size_t begin = first * from.tile;
          copy(from.at(first, slot), from.tile, from.count * from.tile, rows.data + begin,
               std::min(last * from.tile, from.elements) - begin, past_caches);
        }
      } else if constexpr (viewed<P>) {
        const factors_view<E> from = pool.factors(slot, i);
        const std::size_t begin = first * block, end = last * block;
        if (begin < from.a.size()) {
          const std::size_t n = std::min(end, from.a.size()) - begin;
          copy(from.a.data + begin, n, 0, rows.data + begin, n, past_caches);
        }
        if (begin < from.b.size()) {
          const std::size_t n = std::min(end, from.b.size()) - begin;
          fits = scatter<B>(scale, from.b.data + begin, n, begin, columns);
        }
      } else {
        pool.copy_a(slot, i, rows);
        pool.copy_b(slot, i, columns);
        for (std::size_t r = 0; r < columns.rows; ++r) {
          fits &= scatter<B>(scale, columns.row(r), rank, r * rank, columns);
        }
      }
      if (!fits && bad == none) bad = k;
    }
    if (row == 0 && first == 0) {
      std::fill_n(a.data, a.size(), from_float<E>(0));
      std::fill_n(b.data, b.size(), from_float<E>(0));
    }
    if constexpr (interleaved_source<P>) {
      const auto from = pool.b(i);
      const std::size_t end = std::min(last, from.tiles());
      for (std::size_t t = first; row != 0 && t < end; ++t) {
        bad = std::min(bad, join_b(pool, weights, from, i, t, b, past_caches));
      }
    }
    return bad;
  }

  /// Tile t of B of all adapters. Whole rows of the result are put together in L1 first, where they
  /// fit, so that memory is written a line at a time.
  template <class P, element E>
  static std::size_t join_b(const P& pool, std::span<const weighted_slot> weights,
                            adapter::interleaved_view<const E> from, std::size_t i, std::size_t t,
                            matrix_view<E> b, bool past_caches) {
    constexpr std::size_t room = 16384 / sizeof(E);
    alignas(alignment) std::array<E, room> memory;
    const std::size_t rank = from.elements / b.rows, length = from.length(t);
    const std::size_t fitting =
        from.tile % rank == 0 ? std::min(from.tile / rank, room / b.cols) : 0;
    const std::size_t step = fitting == 0 ? length : fitting * rank;
    std::size_t bad = none;
    for (std::size_t j = 0; j < length; j += step) {
      const std::size_t n = std::min(step, length - j), begin = t * from.tile + j;
      std::size_t column = 0;
      for (std::size_t k = 0; k < weights.size(); ++k) {
        const auto [slot, weight] = weights[k];
        if (weight == 0) continue;
        const float scale = weight * pool.scale(slot, i);
        const bool fits =
            fitting == 0
                ? scatter<B>(scale, from.at(t, slot) + j, n, begin,
                             matrix_view<E>(b.data + column, b.rows, rank, b.stride))
                : scatter<B>(scale, from.at(t, slot) + j, n, 0,
                             matrix_view<E>(memory.data() + column, n / rank, rank, b.cols));
        if (!fits) bad = std::min(bad, k);
        column += rank;
      }
      if (fitting != 0) {
        const std::size_t count = n / rank * b.cols;
        copy(memory.data(), count, 0, b.row(begin / rank), count, past_caches);
      }
    }
    return bad;
  }

  /// Bit by bit: a sum of one row of weight 1.
  template <element E>
  static void copy(const E* from, std::size_t tile, std::size_t stride, E* to, std::size_t n,
                   bool past_caches) noexcept {
    const float one = 1;
    B::weighted_sum(weighted_tiles<E>{&one, &from, 1, tile, stride}, to, n, past_caches);
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
