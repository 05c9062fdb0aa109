// SPDX-License-Identifier: MIT
// The weights of the most similar adapters only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/match/cosine_softmax.hpp>

namespace crayon::match {

/// Keeps the k largest of the weights, the first ones among equals, and scales them to their old
/// sum. k = 0 or as many as there are: all stay as they are.
inline void keep_largest(std::span<float> weights, std::size_t k) {
  if (k == 0 || k >= weights.size()) return;
  std::vector<std::size_t> order(weights.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto last = order.begin() + static_cast<std::ptrdiff_t>(k);
  std::partial_sort(order.begin(), last, order.end(), [&](std::size_t a, std::size_t b) {
    return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
  });
  double all = 0, kept = 0;
  for (const float w : weights) all += double{w};
  for (auto i = order.begin(); i != last; ++i) kept += double{weights[*i]};
  for (auto i = last; i != order.end(); ++i) weights[*i] = 0;
  for (auto i = order.begin(); i != last; ++i) {
    weights[*i] = static_cast<float>(double{weights[*i]} * (kept > 0 ? all / kept : 1));
  }
}

/// `cosine_softmax` over all samples, then the k largest weights, scaled to sum 1: an exact blend
/// has at most k times the rank, and the bytes of the other adapters are not read. k = 1 is
/// retrieval of the adapter that suits the samples best together.
struct top_k {
  float tau = 0.1F;
  std::size_t k = 4;  ///< 0: all

  [[nodiscard]] static constexpr std::string_view name() noexcept { return "top_k"; }

  /// A tau that is not a positive number is an error.
  [[nodiscard]] static result<top_k> with(float tau, std::size_t k) {
    CRAYON_TRY(const cosine_softmax checked, cosine_softmax::with_tau(tau));
    return top_k{checked.tau, k};
  }

  [[nodiscard]] std::vector<float> weights(matrix_view<const float> index,
                                           matrix_view<const float> samples) const {
    std::vector<float> w = cosine_softmax{tau}.weights(index, samples);
    keep_largest(w, k);
    return w;
  }
};
static_assert(matcher<top_k>);

}  // namespace crayon::match
