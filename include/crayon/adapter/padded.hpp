// SPDX-License-Identifier: MIT
// Adapters that differ in sites, ranks and scales, brought to the one shape that a pool has.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/concepts.hpp>

namespace crayon::adapter {

/// The adapters of a set with the same sites, ranks and scales, every dW as it was. One rule: a
/// site has the largest rank and the scale of the largest magnitude that any adapter has there; the
/// rows of A and columns of B that an adapter lacks are zero; its B takes s_i / s, at most 1 in
/// magnitude, so that nothing overflows (exact where that is a power of two, else rounded once). A
/// site that an adapter lacks is zero altogether.
template <element E>
[[nodiscard]] std::vector<lora_adapter<E>> padded(const adapter_set<E>& set) {
  std::vector<site_shape> shapes;
  for (std::size_t i = 0; i < set.sites(); ++i) {
    site_shape shape{std::string(set.module(i)), set.out(i), set.in(i), 0, 0, set.kind(i)};
    for (std::size_t k = 0; k < set.size(); ++k) {
      shape.rank = std::max(shape.rank, set.rank(k, i));
      const float scale = set.scale(k, i);
      if (std::abs(scale) > std::abs(shape.scale)) shape.scale = scale;
    }
    shapes.push_back(std::move(shape));
  }
  std::vector<lora_adapter<E>> all;
  for (std::size_t k = 0; k < set.size(); ++k) {
    lora_adapter<E>& made = all.emplace_back(shapes);
    for (std::size_t i = 0; i < set.sites(); ++i) {
      const std::size_t rank = set.rank(k, i);
      if (rank == 0) continue;
      set.copy_a(k, i, made.a(i).rows_from(0, rank));
      const matrix_view<E> b(made.b(i).data, shapes[i].out, rank, shapes[i].rank);
      set.copy_b(k, i, b);
      if (set.scale(k, i) == shapes[i].scale) continue;
      const float ratio = set.scale(k, i) / shapes[i].scale;
      for (std::size_t r = 0; r < b.rows; ++r) {
        for (std::size_t c = 0; c < rank; ++c) b(r, c) = from_float<E>(ratio * to_float(b(r, c)));
      }
    }
  }
  return all;
}

}  // namespace crayon::adapter
