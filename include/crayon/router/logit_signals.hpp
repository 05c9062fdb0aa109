// SPDX-License-Identifier: MIT
// How sure a model is of one token: numbers from its logits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include <crayon/concepts.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::router {

inline constexpr float not_measured = std::numeric_limits<float>::quiet_NaN();

/// The softmax of one position, seen without computing it.
struct logit_signals {
  float max_probability = not_measured;
  float margin = not_measured;   ///< best minus second probability
  float entropy = not_measured;  ///< nats
  float max_logit = not_measured;
  float log_sum_exp = not_measured;  ///< log-probability of token t = logits[t] - log_sum_exp
  std::size_t best = 0;              ///< the first of the largest logits
};

/// With p_j = exp(x_j - m) / S, m the largest logit: the largest probability is 1 / S, log_sum_exp
/// = m + log S and entropy = log S - sum_j p_j (x_j - m). -inf logits count as probability 0. No
/// logits, a NaN or +inf among them, or only -inf: everything stays not measured. `likeliest`,
/// where it is not empty, gets the best tokens on the way: what a sampler needs.
template <kernel_backend Backend = simd::scalar>
[[nodiscard]] logit_signals measure(std::span<const float> logits,
                                    std::span<ranked_token> likeliest = {}) noexcept {
  const logit_summary found = Backend::summarize(logits.data(), logits.size(), likeliest);
  if (!(found.sum >= 0.5)) return {};  // rounding apart it is 1 or more
  const double log_sum = std::log(found.sum);
  logit_signals seen;
  seen.max_probability = static_cast<float>(1 / found.sum);
  const double gap = double{found.second} - double{found.top};
  seen.margin = static_cast<float>((1 - std::exp(gap)) / found.sum);
  seen.entropy = static_cast<float>(std::max(0.0, log_sum - found.weighted / found.sum));
  seen.max_logit = found.top;
  seen.log_sum_exp = static_cast<float>(double{found.top} + log_sum);
  seen.best = found.best;
  return seen;
}

}  // namespace crayon::router
