// SPDX-License-Identifier: MIT
// The weights of a blend: where they come from and what every policy refuses.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/interleaved_view.hpp>
#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/function_ref.hpp>
#include <crayon/core/result.hpp>

namespace crayon::blend {

/// Adapters whose factors can be copied out: `adapter::pool`, `adapter::mapped_pool`,
/// `adapter::adapter_set`.
template <class P>
concept factor_source = element<typename P::element_type> &&
    requires(const P& p, std::size_t slot, std::size_t site,
             matrix_view<typename P::element_type> to) {
  { p.size() } -> std::convertible_to<std::size_t>;             // number of adapters
  { p.sites() } -> std::convertible_to<std::size_t>;            // sites of all of them
  { p.module(site) } -> std::convertible_to<std::string_view>;  // its name in the base model
  { p.out(site) } -> std::convertible_to<std::size_t>;          // rows of W
  { p.in(site) } -> std::convertible_to<std::size_t>;           // columns of W
  { p.kind(site) } -> std::same_as<adapter::site_kind>;         // what dW is added to
  { p.rank(slot, site) } -> std::convertible_to<std::size_t>;   // 0 where it has no factors
  { p.scale(slot, site) } -> std::convertible_to<float>;        // dW = scale * B A
  p.copy_a(slot, site, to);                                     // A (rank, in)
  p.copy_b(slot, site, to);                                     // B (out, rank)
};

/// Adapters of the same shapes whose tiles lie side by side: `adapter::pool`,
/// `adapter::mapped_pool`.
template <class P>
concept interleaved_source = factor_source<P> && requires(const P& p, std::size_t site) {
  { p.shapes() } -> std::same_as<const std::vector<adapter::site_shape>&>;  // of every adapter
  { p.tile() } -> std::convertible_to<std::size_t>;                         // elements
  // A (rank, in) and B (out, rank) of all adapters; may be called by several threads at once
  { p.a(site) } -> std::same_as<adapter::interleaved_view<const typename P::element_type>>;
  { p.b(site) } -> std::same_as<adapter::interleaved_view<const typename P::element_type>>;
};

/// Tiles of A and of B at a site. Asking for the views instead would count as using the site, for
/// the residency policy of a mapped pool.
template <interleaved_source P>
[[nodiscard]] std::pair<std::size_t, std::size_t> tiles_at(const P& p, std::size_t site) noexcept {
  const std::size_t rank = p.shapes()[site].rank, tile = p.tile();
  return {(rank * p.in(site) + tile - 1) / tile, (rank * p.out(site) + tile - 1) / tile};
}

/// A softmax weight that is not worth its adapter's bytes: 37 of them change a blend by less than
/// the rounding of bf16 factors.
inline constexpr float negligible = 1e-4F;

/// Weight i for adapter i: what a matcher returns, as a blend takes it. Weights of a magnitude
/// below `least` are left out (all are kept if that is all of them): with concat, the rank of the
/// result is that of the adapters that matter.
[[nodiscard]] inline std::vector<weighted_slot> slots_of(std::span<const float> weights,
                                                         float least = 0) {
  std::vector<weighted_slot> slots;
  slots.reserve(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!(std::abs(weights[i]) < least)) slots.push_back({i, weights[i]});
  }
  return slots.empty() && least != 0 ? slots_of(weights) : slots;
}

/// An adapter in an error: its name where the source has names, else (and where the name was made
/// up from the number) "adapter 3".
template <factor_source P>
[[nodiscard]] std::string who(const P& p, std::size_t slot) {
  const std::string number = std::to_string(slot);
  std::string name;
  if constexpr (requires { p.names()[slot]; }) {
    name = p.names()[slot];
  } else if constexpr (requires { p.info().names[slot]; }) {
    name = p.info().names[slot];
  }
  return name.empty() || name == "adapter-" + number ? "adapter " + number : name;
}

/// Refuses an empty list, an unknown or repeated slot, and a weight that is not finite. Allocates
/// only for an error, in which `name_of` names the adapters.
[[nodiscard]] inline result<void> check_weights(std::size_t adapters,
                                                std::span<const weighted_slot> weights,
                                                function_ref<std::string(std::size_t)> name_of) {
  if (weights.empty()) return error{errc::bad_value, "a blend of no adapters: no weights given"};
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto [slot, weight] = weights[i];
    if (slot >= adapters) {
      return error{errc::bad_value, "weight for adapter " + std::to_string(slot) + ", there are " +
                                        std::to_string(adapters)};
    }
    if ((std::bit_cast<std::uint32_t>(weight) & 0x7F800000U) == 0x7F800000U) {
      return error{errc::bad_value, "weight of " + name_of(slot) + " is " + std::to_string(weight) +
                                        ", needs a finite number"};
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (weights[j].slot == slot) {
        return error{errc::bad_value, name_of(slot) + " has two weights, " +
                                          std::to_string(weights[j].weight) + " and " +
                                          std::to_string(weight)};
      }
    }
  }
  return {};
}
template <factor_source P>
[[nodiscard]] result<void> check_weights(const P& p, std::span<const weighted_slot> weights) {
  return check_weights(p.size(), weights, [&](std::size_t slot) { return who(p, slot); });
}

}  // namespace crayon::blend
