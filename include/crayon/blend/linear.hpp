// SPDX-License-Identifier: MIT
// The factor-wise blend: A = sum_i w_i A_i, B = sum_i w_i B_i, of one adapter's size.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/finite.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::blend {

/// Not exact. With sum w = 1,
///   B A = sum_i w_i B_i A_i - sum_i w_i (B_i - B)(A_i - A):
/// the error is the weighted covariance of the factors. Weights of another sum act on both factors,
/// so that dW grows with its square; and w -> -w would leave dW as it is instead of negating it.
/// Negative weights are therefore refused: `activations` and `concat` take them.
template <kernel_backend B = simd::scalar>
struct linear {
  /// Weights other than zero in one blend: what fits on the stack of a task.
  static constexpr std::size_t most_slots = 256;

  [[nodiscard]] static constexpr std::string_view name() noexcept { return "linear"; }

  /// Tiles are spread over the executor's threads.
  template <interleaved_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<adapter::lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights, X&& threads = X{}) {
    CRAYON_CHECK(check(pool, weights));
    adapter::lora_adapter<typename P::element_type> out(pool.shapes());
    CRAYON_CHECK(blend_into(pool, weights, out, threads));
    return out;
  }

  /// The same into an adapter of the pool's shapes; allocates nothing. With weights whose sum is
  /// above 1 it looks at the result once more: a value that the element cannot hold is an error.
  template <interleaved_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<void> blend_into(const P& pool,
                                               std::span<const weighted_slot> weights,
                                               adapter::lora_adapter<typename P::element_type>& out,
                                               X&& threads = X{}) {
    CRAYON_CHECK(check(pool, weights));
    if (out.shapes() != pool.shapes()) {
      return error{errc::bad_shape, "the adapter to blend into has other sites than the pool"};
    }
    // Every thread takes a contiguous share of the tiles of all factors.
    std::size_t tiles = 0;
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      const auto [of_a, of_b] = tiles_at(pool, i);
      tiles += of_a + of_b;
    }
    const std::size_t parts = threads.concurrency();
    threads.parallel_for(parts, [&](std::size_t part) {
      active_slots active;
      for (const auto& [slot, weight] : weights) {
        if (weight != 0) active.add(slot, weight);
      }
      const bool past_caches = out.bytes() >= stream_from;
      const auto mine = part_of(tiles, part, parts);
      std::size_t before = 0;  // tiles of the factors already passed
      const auto add = [&](auto from, auto to) {
        const std::size_t first = std::max(mine.first, before), end = before + from.tiles();
        const std::size_t last = std::min(mine.second, end);
        if (first < last) sum(from, active, to.data, first - before, last - before, past_caches);
        before = end;
      };
      for (std::size_t i = 0; i < pool.sites() && before < mine.second; ++i) {
        const auto [of_a, of_b] = tiles_at(pool, i);
        if (mine.first >= before + of_a + of_b) {
          before += of_a + of_b;
          continue;
        }
        add(pool.a(i), out.a(i));
        add(pool.b(i), out.b(i));
      }
    });
    return cannot_grow(weights) ? result<void>() : check_finite(pool, weights, out);
  }

 private:
  template <interleaved_source P>
  static result<void> check(const P& pool, std::span<const weighted_slot> weights) {
    CRAYON_CHECK(check_weights(pool, weights));
    std::size_t count = 0;
    for (const auto& [slot, weight] : weights) {
      count += weight != 0;
      if (weight < 0) {
        return error{errc::bad_value, "weight of " + who(pool, slot) + " is " +
                                          std::to_string(weight) +
                                          ": the linear blend takes no negative weights"};
      }
    }
    if (count > most_slots) {
      return error{errc::unsupported, std::to_string(count) + " weights other than zero, at most " +
                                          std::to_string(most_slots) + " in one linear blend"};
    }
    return {};
  }

  /// An adapter of so many bytes is written past the caches: it would not stay in those of one core
  /// (2 MB), and a line that is written needs not be read first.
  static constexpr std::size_t stream_from = std::size_t{4} << 20;

  struct active_slots {
    std::array<std::size_t, most_slots> slot;
    std::array<float, most_slots> weight;
    std::size_t count = 0;

    void add(std::size_t s, float w) noexcept {
      slot[count] = s;
      weight[count++] = w;
    }
  };

  /// Tiles [first, last) of one factor.
  template <element E>
  static void sum(adapter::interleaved_view<const E> from, const active_slots& active, E* to,
                  std::size_t first, std::size_t last, bool past_caches) noexcept {
    std::array<const E*, most_slots> rows;
    for (std::size_t k = 0; k < active.count; ++k) rows[k] = from.at(first, active.slot[k]);
    const std::size_t begin = first * from.tile, end = std::min(last * from.tile, from.elements);
    B::weighted_sum(weighted_tiles<E>{active.weight.data(), rows.data(), active.count, from.tile,
                                      from.count * from.tile},
                    to + begin, end - begin, past_caches);
  }
};
static_assert(blend_policy<linear<>, adapter::pool<float>>);
static_assert(blend_policy<linear<>, adapter::pool<bf16>>);

}  // namespace crayon::blend
