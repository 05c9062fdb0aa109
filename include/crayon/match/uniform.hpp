// SPDX-License-Identifier: MIT
// The same weight for every adapter: the control that needs no samples.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include <crayon/concepts.hpp>

namespace crayon::match {

struct uniform {
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "uniform"; }

  /// index (N, d) -> N weights of 1 / N; the samples are not looked at.
  [[nodiscard]] std::vector<float> weights(matrix_view<const float> index,
                                           matrix_view<const float>) const {
    return std::vector<float>(index.rows, 1.0F / static_cast<float>(index.rows));
  }
};
static_assert(matcher<uniform>);

}  // namespace crayon::match
