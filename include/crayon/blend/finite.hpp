// SPDX-License-Identifier: MIT
// Blends whose result no element of the factors can hold.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/core/result.hpp>

namespace crayon::blend {

/// Neither NaN nor infinite, whatever the compiler assumes about floating point.
[[nodiscard]] constexpr bool is_finite(float value) noexcept {
  return (std::bit_cast<std::uint32_t>(value) & 0x7F800000U) != 0x7F800000U;
}

/// Sums with these weights stay within the largest summand: no need to look at the result. The sum
/// of a softmax may be 1 and some rounding: f16 and bf16 round that away, and an f32 so close to
/// its limit is in no factor.
[[nodiscard]] inline bool cannot_grow(std::span<const weighted_slot> weights) noexcept {
  float sum = 0;
  for (const auto& [slot, weight] : weights) sum += std::abs(weight);
  return sum <= 1 + 0x1p-13F;
}

/// The adapter that a blend is mostly made of at a site: largest |weight scale| max|B| max|A|.
/// Reads and allocates: for errors.
template <factor_source P>
[[nodiscard]] std::size_t dominant_slot(const P& pool, std::span<const weighted_slot> weights,
                                        std::size_t site) {
  using E = typename P::element_type;
  const auto largest = [](const std::vector<E>& values) {
    float most = 0;
    for (const E e : values) most = std::max(most, std::abs(to_float(e)));
    return double{most};
  };
  std::size_t dominant = weights.empty() ? 0 : weights[0].slot;
  double most = -1;
  for (const auto& [slot, weight] : weights) {
    const std::size_t rank = weight == 0 ? 0 : pool.rank(slot, site);
    if (rank == 0) continue;
    std::vector<E> a(rank * pool.in(site)), b(pool.out(site) * rank);
    pool.copy_a(slot, site, matrix_view<E>(a.data(), rank, pool.in(site)));
    pool.copy_b(slot, site, matrix_view<E>(b.data(), pool.out(site), rank));
    const double size =
        std::abs(double{weight} * double{pool.scale(slot, site)}) * largest(a) * largest(b);
    if (size > most) most = size, dominant = slot;
  }
  return dominant;
}

/// "adapter 2 with weight 30.0 makes the blend at m too large for F16"
template <factor_source P>
[[nodiscard]] error too_large(const P& pool, std::span<const weighted_slot> weights,
                              std::size_t site, dtype type) {
  const std::size_t slot = dominant_slot(pool, weights, site);
  float weight = 0;
  for (const auto& w : weights) weight = w.slot == slot ? w.weight : weight;
  return {errc::bad_value, who(pool, slot) + " with weight " + std::to_string(weight) +
                               " makes the blend at " + std::string(pool.module(site)) +
                               " too large for " + std::string(crayon::name(type))};
}

/// Refuses a blend of `pool` with a factor that is not finite. `blended` has the pool's sites in
/// their order.
template <factor_source P, element E>
[[nodiscard]] result<void> check_finite(const P& pool, std::span<const weighted_slot> weights,
                                        const adapter::lora_adapter<E>& blended) {
  for (std::size_t i = 0; i < blended.size(); ++i) {
    const auto f = blended.factors(i);
    for (const auto& m : {f.a, f.b}) {
      bool good = true;
      for (std::size_t j = 0; j < m.size(); ++j) good &= is_finite(to_float(m.data[j]));
      if (!good) return too_large(pool, weights, i, dtype_of<E>);
    }
  }
  return {};
}

}  // namespace crayon::blend
