// SPDX-License-Identifier: MIT
// Logits -> the next token.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
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
  /// The same from the likeliest tokens, if there are any, in falling order.
  [[nodiscard]] std::optional<std::int32_t> from(
      std::span<const ranked_token> likeliest) const noexcept {
    if (likeliest.empty() || likeliest[0].token < 0) return std::nullopt;
    return likeliest[0].token;
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
    return draw(kept);
  }

  /// The same token from the likeliest ones in falling order, where they are enough: one at
  /// temperature 0, otherwise those of a top_k below the number of all tokens.
  [[nodiscard]] std::optional<std::int32_t> from(std::span<const ranked_token> likeliest) {
    if (!(options_.temperature > 0)) return greedy{}.from(likeliest);
    const std::size_t k = options_.top_k;
    if (k == 0 || k > likeliest.size() || likeliest[k - 1].token < 0) return std::nullopt;
    candidates_.resize(std::max(k, candidates_.size()));
    for (std::size_t i = 0; i < k; ++i) candidates_[i] = {likeliest[i].logit, likeliest[i].token};
    return draw(k);
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

  /// From the first `kept` candidates.
  [[nodiscard]] std::int32_t draw(std::size_t kept) {
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

  sampling_options options_;
  rng rng_;
  std::vector<candidate> candidates_;
};
static_assert(sampler<random_sampler>);

}  // namespace crayon::model
