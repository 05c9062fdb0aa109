// SPDX-License-Identifier: MIT
// What one pass over a position's logits finds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include <crayon/core/config.hpp>

namespace crayon {

/// One of the likeliest tokens.
struct ranked_token {
  float logit = -std::numeric_limits<float>::infinity();
  std::int32_t token = -1;  ///< -1: there are fewer tokens than were asked for
};

/// Of logits x_0 ... x_(n-1). A NaN or +inf among them, or only -inf: `sum` is NaN. None: it is 0.
struct logit_summary {
  float top = 0;         ///< the largest
  float second = 0;      ///< of the others the largest; -inf for one token
  std::size_t best = 0;  ///< the first x_j that is `top`
  double sum = 0;        ///< sum_j exp(x_j - top), at least 1
  double weighted = 0;   ///< sum_j exp(x_j - top) (x_j - top), at most 0
};

/// Puts a token, likelier than the last of `ranked`, in its place: falling logits, of equal ones
/// the first comes first.
CRAYON_INLINE void put_in_order(std::span<ranked_token> ranked, float logit,
                                std::size_t token) noexcept {
  std::size_t at = ranked.size() - 1;
  for (; at > 0 && ranked[at - 1].logit < logit; --at) ranked[at] = ranked[at - 1];
  ranked[at] = {logit, static_cast<std::int32_t>(token)};
}

}  // namespace crayon
