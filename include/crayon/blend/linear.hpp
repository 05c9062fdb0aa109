// SPDX-License-Identifier: MIT
// The factor-wise blend: A = sum_i w_i A_i, B = sum_i w_i B_i, of one adapter's size.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
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
    CRAYON_CHECK(check(pool.size(), weights));
    adapter::lora_adapter<typename P::element_type> out(pool.shapes());
    CRAYON_CHECK(blend_into(pool, weights, out, threads));
    return out;
  }

  /// The same into an adapter of the pool's shapes; allocates nothing.
  template <interleaved_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<void> blend_into(const P& pool,
                                               std::span<const weighted_slot> weights,
                                               adapter::lora_adapter<typename P::element_type>& out,
                                               X&& threads = X{}) {
    CRAYON_CHECK(check(pool.size(), weights));
    if (out.shapes() != pool.shapes()) {
      return error{errc::bad_shape, "the adapter to blend into has other sites than the pool"};
    }
    // Every thread takes a contiguous share of every factor's tiles: one parallel region for all.
    const std::size_t parts = threads.concurrency();
    threads.parallel_for(parts, [&](std::size_t part) {
      std::array<std::size_t, most_slots> slots;
      std::array<float, most_slots> used;
      std::size_t count = 0;
      for (const auto& [slot, weight] : weights) {
        if (weight == 0) continue;
        slots[count] = slot;
        used[count++] = weight;
      }
      const std::span<const std::size_t> active(slots.data(), count);
      for (std::size_t i = 0; i < pool.sites(); ++i) {
        sum(pool.a(i), active, used.data(), out.a(i).data, part, parts);
        sum(pool.b(i), active, used.data(), out.b(i).data, part, parts);
      }
    });
    return {};
  }

 private:
  static result<void> check(std::size_t adapters, std::span<const weighted_slot> weights) {
    CRAYON_CHECK(check_weights(adapters, weights));
    std::size_t count = 0;
    for (const auto& [slot, weight] : weights) {
      count += weight != 0;
      if (weight < 0) {
        return error{errc::bad_value, "weight of adapter " + std::to_string(slot) + " is " +
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

  /// Part `part` of `parts` of one factor. Prefetching the next tile in software lost: 1.9 to 5
  /// times the time without it (2.3 GHz Xeon with AVX-512 and 2 MB of L2, tiles of 256 to 4096
  /// elements).
  template <element E>
  static void sum(adapter::interleaved_view<const E> from, std::span<const std::size_t> slots,
                  const float* weights, E* to, std::size_t part, std::size_t parts) noexcept {
    std::array<const E*, most_slots> rows;
    const auto [first, last] = part_of(from.tiles(), part, parts);
    for (std::size_t t = first; t < last; ++t) {
      for (std::size_t k = 0; k < slots.size(); ++k) rows[k] = from.at(t, slots[k]);
      B::weighted_sum(weighted_rows<E>{weights, rows.data(), slots.size()}, to + t * from.tile,
                      from.length(t));
    }
  }
};
static_assert(blend_policy<linear<>, adapter::pool<float>>);
static_assert(blend_policy<linear<>, adapter::pool<bf16>>);

}  // namespace crayon::blend
