// SPDX-License-Identifier: MIT
// Logits -> the next token.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/rng.hpp>

namespace crayon::model {

/// The token with the largest logit; the first of equal ones.
struct greedy {
  [[nodiscard]] std::int32_t operator()(std::span<const float> logits) const noexcept {
    CRAYON_ASSERT(!logits.empty());
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
  }
};
static_assert(sampler<greedy>);

struct sampling_options {
  float temperature = 1;  ///< logits are divided by it; 0 is greedy
  std::size_t top_k = 0;  ///< only the k likeliest tokens; 0 is all
  float top_p = 1;        ///< then only the fewest likeliest whose probabilities reach p
};

/// Draws from softmax(logits / temperature) cut to top-k and then top-p (nucleus sampling,
/// Holtzman et al. 2020), in that order, as transformers does. Allocates on its first call only.
class random_sampler {
 public:
  random_sampler(sampling_options options, std::uint64_t seed) noexcept
      : options_(options), rng_(seed) {}

  [[nodiscard]] std::int32_t operator()(std::span<float> logits) {
    if (!(options_.temperature > 0)) return greedy{}(logits);
    candidates_.resize(logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i) {
      candidates_[i] = {logits[i], static_cast<std::int32_t>(i)};
    }
    std::size_t kept = candidates_.size();
    const bool cut_k = options_.top_k > 0 && options_.top_k < kept;
    if (cut_k || options_.top_p < 1) {
      if (cut_k) kept = options_.top_k;
      std::partial_sort(candidates_.begin(),
                        candidates_.begin() + static_cast<std::ptrdiff_t>(kept), candidates_.end(),
                        likelier);
    }
    const auto first = candidates_.begin();
    const float top =
        std::max_element(first, first + static_cast<std::ptrdiff_t>(kept), less)->value;
    double sum = 0;
    for (std::size_t i = 0; i < kept; ++i) {
      candidates_[i].value = std::exp((candidates_[i].value - top) / options_.temperature);
      sum += double{candidates_[i].value};
    }
    if (options_.top_p < 1) {
      const double enough = double{options_.top_p} * sum;
      double reached = 0;
      std::size_t i = 0;
      while (i < kept && (i == 0 || reached < enough)) reached += double{candidates_[i++].value};
      kept = i;
      sum = reached;
    }
    double rest = double{rng_.uniform()} * sum;
    for (std::size_t i = 0; i + 1 < kept; ++i) {
      rest -= double{candidates_[i].value};
      if (rest < 0) return candidates_[i].token;
    }
    return candidates_[kept - 1].token;
  }

 private:
  struct candidate {
    float value;
    std::int32_t token;
  };
  static bool less(candidate a, candidate b) noexcept { return a.value < b.value; }
  static bool likelier(candidate a, candidate b) noexcept {
    return a.value > b.value || (a.value == b.value && a.token < b.token);
  }

  sampling_options options_;
  rng rng_;
  std::vector<candidate> candidates_;
};
static_assert(sampler<random_sampler>);

}  // namespace crayon::model
