// SPDX-License-Identifier: MIT
// What a sampler draws from: the likeliest tokens where they are enough, else all logits.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <crayon/concepts.hpp>

namespace crayon::engine {

/// The pass over the logits that measures signals finds the likeliest tokens on its way; a sampler
/// with `from(likeliest)` then needs no other.
class next_token {
 public:
  /// Room for the likeliest tokens of the next logits, as many as a sampler with this top_k asks
  /// for: one at least, 64 at most.
  [[nodiscard]] std::span<ranked_token> likeliest(std::size_t top_k) noexcept {
    count_ = std::clamp<std::size_t>(top_k, 1, likeliest_.size());
    return std::span(likeliest_).first(count_);
  }

  template <sampler S>
  [[nodiscard]] std::int32_t draw(S& sampler, std::span<const float> logits) {
    if constexpr (requires(std::span<const ranked_token> found) { sampler.from(found); }) {
      const std::span<const ranked_token> found = std::span(likeliest_).first(count_);
      if (const auto token = sampler.from(found)) return *token;
    }
    all_.assign(logits.begin(), logits.end());
    return sampler(std::span<float>(all_));
  }

 private:
  std::array<ranked_token, 64> likeliest_{};
  std::size_t count_ = 1;
  std::vector<float> all_;
};

}  // namespace crayon::engine
