// SPDX-License-Identifier: MIT
// What the laws of every policy are checked with.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/activations.hpp>
#include <crayon/core/rng.hpp>

#include "../adapter/random_adapter.hpp"
#include "../catch.hpp"

namespace crayon_test {

using crayon::weighted_slot;
using crayon::adapter::adapter_set;
using crayon::adapter::lora_adapter;
using crayon::adapter::pool;

/// Adapters of equal sites, and one pool of them.
template <element E>
struct random_pool {
  std::vector<lora_adapter<E>> adapters;
  crayon::adapter::pool<E> pool;

  random_pool(crayon::rng& random, std::size_t count) {
    const auto shapes = random_shapes(random);
    for (std::size_t k = 0; k < count; ++k) {
      adapters.push_back(random_adapter<E>(shapes, random));
    }
    pool = *crayon::adapter::pool<E>::build(adapters, {}, {}, crayon::alignment / sizeof(E));
  }
};

/// Adapters whose sites and ranks differ.
template <element E>
std::vector<lora_adapter<E>> random_foreign(crayon::rng& random, std::size_t count) {
  auto shapes = random_shapes(random);
  std::vector<lora_adapter<E>> adapters;
  for (std::size_t k = 0; k < count; ++k) {
    auto mine = shapes;
    for (auto& s : mine) {
      s.rank = 1 + random.below(5);
      s.scale = 0.5F + random.uniform();
    }
    if (mine.size() > 1) mine.erase(mine.begin() + static_cast<std::ptrdiff_t>(k % mine.size()));
    adapters.push_back(random_adapter<E>(std::move(mine), random));
  }
  return adapters;
}

inline std::vector<weighted_slot> random_weights(crayon::rng& random, std::size_t count) {
  std::vector<weighted_slot> weights;
  for (std::size_t k = 0; k < count; ++k) {
    weights.push_back({k, random.below(4) == 0 ? 0.0F : random.normal()});
  }
  return weights;
}

/// sum_k w_k s_k B_k A_k at the module, from the adapters alone.
template <element E>
std::vector<double> exact_sum(const std::vector<lora_adapter<E>>& adapters,
                              std::span<const weighted_slot> weights, std::string_view module) {
  std::vector<double> sum;
  for (const auto& [slot, weight] : weights) {
    const auto at = adapters[slot].find(module);
    if (at) add_delta(sum, adapters[slot].factors(*at), double{weight});
  }
  return sum;
}

/// dW at site i of an adapter, or of weighted adapters.
template <element E>
std::vector<double> delta_at(const lora_adapter<E>& adapter, std::size_t i) {
  return delta(adapter.factors(i));
}
template <element E>
std::vector<double> delta_at(const crayon::blend::weighted_adapters<E>& sum, std::size_t i) {
  std::vector<double> total;
  for (const auto& part : sum.parts(i)) add_delta(total, part);
  return total;
}

/// Bound of |dW - exact| for products and sums rounded `roundings` times to E or f32: the norms of
/// what is summed, times the unit roundoff. Cancellation in the sum does not shrink it.
template <element E>
double tolerance(const std::vector<lora_adapter<E>>& adapters,
                 std::span<const weighted_slot> weights, std::string_view module) {
  double scale = 0;
  for (const auto& [slot, weight] : weights) {
    const auto at = adapters[slot].find(module);
    if (!at) continue;
    // |B| |A| bounds the norm of the product and of everything that rounding can change in it.
    const auto f = adapters[slot].factors(*at);
    double a = 0, b = 0;
    for (std::size_t j = 0; j < f.a.size(); ++j) a += std::pow(double{to_float(f.a.data[j])}, 2);
    for (std::size_t j = 0; j < f.b.size(); ++j) b += std::pow(double{to_float(f.b.data[j])}, 2);
    scale += std::abs(double{weight} * double{f.scale}) * std::sqrt(a * b);
  }
  return 2 * double{crayon::unit_roundoff<E>} * scale + 1e-30;
}

}  // namespace crayon_test
