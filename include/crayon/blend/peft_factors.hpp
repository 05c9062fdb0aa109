// SPDX-License-Identifier: MIT
// What PEFT's factor-wise combinations have in common (LoraModel.add_weighted_adapter with linear,
// ties, dare_linear, dare_ties, magnitude_prune): weights, shapes, and what they refuse.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/finite.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>

namespace crayon::blend {

/// The weight of one factor: |weight * scale|^(1/2), so that the product of both has the weight
/// once; the sign goes to A alone.
[[nodiscard]] inline float peft_root(float weight, float scale, bool of_a) noexcept {
  const double product = double{weight} * double{scale};
  const double root = std::sqrt(std::abs(product));
  return static_cast<float>(of_a && product < 0 ? -root : root);
}

/// The shapes of the result: the sites in the order of the pool, scale 1, the rank that the
/// adapters have in common; a bias has rank 1, and so has a site where no adapter takes part.
template <factor_source P>
[[nodiscard]] result<std::vector<adapter::site_shape>> peft_shapes(
    const P& pool, std::span<const weighted_slot> weights, std::string_view policy) {
  CRAYON_CHECK(check_weights(pool, weights));
  std::vector<adapter::site_shape> shapes;
  for (std::size_t i = 0; i < pool.sites(); ++i) {
    const bool bias = pool.kind(i) == adapter::site_kind::bias;
    std::size_t rank = 0, first = 0;
    for (const auto& [slot, weight] : weights) {
      const std::size_t its = weight == 0 ? 0 : pool.rank(slot, i);
      if (its != 0 && rank != 0 && its != rank && !bias) {
        return error{errc::bad_shape, std::string(policy) + " takes adapters of equal rank: " +
                                          std::string(pool.module(i)) + " has rank " +
                                          std::to_string(rank) + " in " + who(pool, first) + ", " +
                                          std::to_string(its) + " in " + who(pool, slot)};
      }
      if (its != 0 && rank == 0) {
        rank = its;
        first = slot;
      }
    }
    shapes.push_back({std::string(pool.module(i)), pool.out(i), pool.in(i),
                      rank == 0 || bias ? 1 : rank, 1.0F, pool.kind(i)});
  }
  return shapes;
}

/// Refuses a target that does not have the shapes of the blend. Allocates only for an error.
template <factor_source P>
[[nodiscard]] result<void> check_peft_target(
    const P& pool, std::span<const weighted_slot> weights, std::string_view policy,
    const adapter::lora_adapter<typename P::element_type>& out) {
  CRAYON_CHECK(check_weights(pool, weights));
  bool fits = out.size() == pool.sites();
  for (std::size_t i = 0; fits && i < pool.sites(); ++i) {
    const adapter::site_shape& shape = out.shape(i);
    fits = shape.module == pool.module(i) && shape.out == pool.out(i) && shape.in == pool.in(i) &&
           shape.kind == pool.kind(i) && shape.scale == 1;
    bool any = false;
    for (const auto& [slot, weight] : weights) {
      const std::size_t rank = weight == 0 ? 0 : pool.rank(slot, i);
      any |= rank != 0;
      fits &= rank == 0 || rank == shape.rank || shape.kind == adapter::site_kind::bias;
    }
    fits &= shape.rank == 1 || (any && shape.kind != adapter::site_kind::bias);
  }
  if (fits) return {};
  CRAYON_TRY(const auto needed, peft_shapes(pool, weights, policy));
  if (out.size() != needed.size()) {
    return error{errc::bad_shape, "the adapter to blend into has " + std::to_string(out.size()) +
                                      " sites, needs " + std::to_string(needed.size())};
  }
  for (std::size_t i = 0; i < needed.size(); ++i) {
    if (out.shape(i) == needed[i]) continue;
    return error{errc::bad_shape, "the adapter to blend into has " +
                                      adapter::describe(out.shape(i)) + ", needs " +
                                      adapter::describe(needed[i])};
  }
  return {};
}

/// The memory that factor-wise blends work in, one part for each thread. It grows to what the
/// largest site needs and is reused.
template <element E>
struct factor_workspace {
  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

  struct part {
    aligned_vector<E> copied;           ///< one factor, or one of each adapter
    aligned_vector<float> rows;         ///< (adapters, elements of a factor)
    aligned_vector<float> merged;       ///< (elements of a factor)
    std::vector<std::size_t> slots;     ///< that take part at a site
    std::vector<float> weights, roots;  ///< of these slots
    std::vector<const E*> pointers;     ///< to the elements of these slots
    std::size_t overflow = none;        ///< the first site whose result does not fit E
  };
  std::vector<part> parts;

  void begin(std::size_t threads, std::size_t adapters) {
    if (parts.size() < threads) parts.resize(threads);
    for (auto& p : parts) {
      p.slots.reserve(adapters);
      p.weights.reserve(adapters);
      p.roots.reserve(adapters);
      p.pointers.reserve(adapters);
      p.overflow = none;
    }
  }

  /// An error where some part has seen an overflow.
  template <factor_source P>
  [[nodiscard]] result<void> finish(const P& pool, std::span<const weighted_slot> weights) const {
    std::size_t first = none;
    for (const auto& p : parts) first = p.overflow < first ? p.overflow : first;
    if (first == none) return {};
    return too_large(pool, weights, first, dtype_of<E>);
  }
};

/// The slots that take part at a site, with their weights.
template <factor_source P>
void select_slots(const P& pool, std::size_t site, std::span<const weighted_slot> weights,
                  typename factor_workspace<typename P::element_type>::part& work) {
  work.slots.clear();
  work.weights.clear();
  for (const auto& [slot, weight] : weights) {
    if (weight == 0 || pool.rank(slot, site) == 0) continue;
    work.slots.push_back(slot);
    work.weights.push_back(weight);
  }
}

template <element E>
[[nodiscard]] bool all_finite(std::span<const E> values) noexcept {
  bool finite = true;
  for (const E value : values) finite &= is_finite(to_float(value));
  return finite;
}

/// Rounds f32 to a factor; false where a value is not finite after it.
template <element E>
[[nodiscard]] bool round_to(std::span<const float> from, E* to) noexcept {
  for (std::size_t j = 0; j < from.size(); ++j) to[j] = from_float<E>(from[j]);
  return all_finite(std::span<const E>(to, from.size()));
}

/// s B A of a bias site, (out) with A (rank, 1): the bias itself, which has no factors to weigh.
template <factor_source P>
void bias_row(const P& pool, std::size_t slot, std::size_t site,
              aligned_vector<typename P::element_type>& copied, float* to) {
  using E = typename P::element_type;
  const std::size_t rank = pool.rank(slot, site), out = pool.out(site);
  copied.resize(rank + out * rank);
  const matrix_view<E> a(copied.data(), rank, 1), b(copied.data() + rank, out, rank);
  pool.copy_a(slot, site, a);
  pool.copy_b(slot, site, b);
  const float scale = pool.scale(slot, site);
  for (std::size_t o = 0; o < out; ++o) {
    float sum = 0;
    for (std::size_t r = 0; r < rank; ++r) sum += to_float(b(o, r)) * to_float(a(r, 0));
    to[o] = scale * sum;
  }
}

}  // namespace crayon::blend
