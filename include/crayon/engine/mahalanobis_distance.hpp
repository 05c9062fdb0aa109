// SPDX-License-Identifier: MIT
// Scope by the shape of a task's samples, not only by where they are. Needs Eigen.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <crayon/engine/scope_distance.hpp>
#include <crayon/router/fit_mahalanobis.hpp>

namespace crayon::engine {

/// The squared Mahalanobis distance to the mean of a task's samples, their covariance shrunk as
/// Ledoit and Wolf do (`router::fit_mahalanobis`). Fewer than 2 samples, or samples that are all
/// the same: not measured.
class mahalanobis_distance {
 public:
  static constexpr bool needs_embedding = true;

  template <class Weights>
  void fit(matrix_view<const float> prompts, Weights&&) {
    auto made = router::fit_mahalanobis(prompts);
    fitted_ = made ? *std::move(made) : router::mahalanobis{};
  }
  template <class Weights>
  [[nodiscard]] float measure(std::span<const float> query, Weights&&) const {
    if (fitted_.means == 0) return router::not_measured;
    std::vector<float> scratch(fitted_.scratch_size());
    return fitted_.measure(query, scratch);
  }

 private:
  router::mahalanobis fitted_;
};
static_assert(scope_distance<mahalanobis_distance>);

}  // namespace crayon::engine
