// SPDX-License-Identifier: MIT
// How sure a model is: numbers from the logits of each token, gathered over an answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include <crayon/concepts.hpp>

namespace crayon::router {

inline constexpr float not_measured = std::numeric_limits<float>::quiet_NaN();

/// The softmax of one position, seen without computing it.
struct logit_signals {
  float max_probability = not_measured;
  float margin = not_measured;       ///< best minus second probability
  float entropy = not_measured;      ///< nats
  float log_sum_exp = not_measured;  ///< log-probability of token t = logits[t] - log_sum_exp
  std::size_t best = 0;              ///< the first of the largest logits
};

/// One pass over the logits, in blocks that stay in the L1 cache between looking for a new maximum
/// and summing: with p_j = exp(x_j - m) / S, lse = m + log S and entropy = lse - sum_j p_j x_j.
/// When the maximum m rises, both sums are scaled down (Milakov, Gimelshein 2018). -inf logits
/// count as probability 0. No logits, a NaN or +inf among them, or only -inf: everything stays not
/// measured.
[[nodiscard]] inline logit_signals measure(std::span<const float> logits) noexcept {
  constexpr std::size_t block = 1024;
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  float first = lowest, second = lowest;  // the two largest logits
  std::size_t best = 0;
  double sum = 0;       // sum exp(x - first)
  double weighted = 0;  // sum exp(x - first) (x - first)
  for (std::size_t from = 0; from < logits.size(); from += block) {
    const auto part = logits.subspan(from, std::min(block, logits.size() - from));
    const float before = first;
    for (std::size_t j = 0; j < part.size(); ++j) {
      if (part[j] > first) {
        second = first;
        first = part[j];
        best = from + j;
      } else if (part[j] > second) {
        second = part[j];
      }
    }
    if (first == lowest) {
      for (const float x : part) sum += double{x == x ? 0.0F : x};  // a NaN shows in the sum
      continue;
    }
    if (first > before && before > lowest) {
      const double shift = double{before} - double{first};
      const double scale = std::exp(shift);
      weighted = scale * (weighted + shift * sum);
      sum *= scale;
    }
    for (const float x : part) {
      const float distance = x - first;
      const float e = std::exp(distance);
      sum += double{e};
      if (e > 0) weighted += double{e} * double{distance};
    }
  }
  if (!(sum >= 1) || first == std::numeric_limits<float>::infinity()) return {};
  const double log_sum = std::log(sum);
  logit_signals seen;
  seen.max_probability = static_cast<float>(1 / sum);
  seen.margin = static_cast<float>((1 - std::exp(double{second} - double{first})) / sum);
  seen.entropy = static_cast<float>(std::max(0.0, log_sum - weighted / sum));
  seen.log_sum_exp = static_cast<float>(double{first} + log_sum);
  seen.best = best;
  return seen;
}

/// Gathers `signals` over the tokens of one answer.
class answer_signals {
 public:
  explicit answer_signals(float scope_distance = not_measured) noexcept {
    seen_.scope_distance = scope_distance;
  }

  /// The distribution that the next token will be drawn from. Right after prefill this is all there
  /// is: the lowest and highest values can then only become worse, so a policy on them that
  /// already says "server" will not change its mind.
  void look(const logit_signals& at) noexcept {
    seen_.max_probability = worse(seen_.max_probability, at.max_probability, -1);
    seen_.margin = worse(seen_.margin, at.margin, -1);
    seen_.entropy = worse(seen_.entropy, at.entropy, 1);
    log_sum_exp_ = at.log_sum_exp;
  }

  /// The token that was drawn from it had this logit.
  void take(float logit) noexcept {
    log_prob_ += double{logit} - double{log_sum_exp_};
    ++seen_.tokens;
    seen_.mean_log_prob = static_cast<float>(log_prob_ / static_cast<double>(seen_.tokens));
  }

  [[nodiscard]] const signals& value() const noexcept { return seen_; }

 private:
  // A NaN that was measured stays: not knowing is not being sure.
  [[nodiscard]] float worse(float so_far, float now, float sign) const noexcept {
    if (seen_.tokens == 0) return now;
    return sign * now > sign * so_far || now != now ? now : so_far;
  }

  signals seen_{not_measured, not_measured, not_measured, not_measured, not_measured, 0};
  double log_prob_ = 0;
  float log_sum_exp_ = not_measured;
};

/// The signals by name, for policies and files that choose one.
enum class signal_kind : std::uint8_t {
  max_probability,
  margin,
  entropy,
  mean_log_prob,
  scope_distance
};

[[nodiscard]] constexpr std::string_view name(signal_kind which) noexcept {
  switch (which) {
    case signal_kind::max_probability:
      return "max_probability";
    case signal_kind::margin:
      return "margin";
    case signal_kind::entropy:
      return "entropy";
    case signal_kind::mean_log_prob:
      return "mean_log_prob";
    case signal_kind::scope_distance:
      return "scope_distance";
  }
  return "?";
}

[[nodiscard]] constexpr std::optional<signal_kind> signal_of(std::string_view text) noexcept {
  for (const auto which : {signal_kind::max_probability, signal_kind::margin, signal_kind::entropy,
                           signal_kind::mean_log_prob, signal_kind::scope_distance}) {
    if (name(which) == text) return which;
  }
  return std::nullopt;
}

[[nodiscard]] constexpr float value_of(const signals& seen, signal_kind which) noexcept {
  switch (which) {
    case signal_kind::max_probability:
      return seen.max_probability;
    case signal_kind::margin:
      return seen.margin;
    case signal_kind::entropy:
      return seen.entropy;
    case signal_kind::mean_log_prob:
      return seen.mean_log_prob;
    case signal_kind::scope_distance:
      return seen.scope_distance;
  }
  return not_measured;
}

/// True where a larger value means that the device is more likely wrong.
[[nodiscard]] constexpr bool rises_with_risk(signal_kind which) noexcept {
  return which == signal_kind::entropy || which == signal_kind::scope_distance;
}

/// The signal, turned so that larger means riskier; its inverse is itself.
[[nodiscard]] constexpr float as_risk(float value, signal_kind which) noexcept {
  return rises_with_risk(which) ? value : -value;
}

/// "Is it riskier than the threshold?", both in the signal's own units. Never true of a value that
/// was not measured.
[[nodiscard]] constexpr bool beyond(float value, float threshold, signal_kind which) noexcept {
  return as_risk(value, which) > as_risk(threshold, which);
}

}  // namespace crayon::router
