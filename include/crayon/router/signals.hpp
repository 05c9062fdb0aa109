// SPDX-License-Identifier: MIT
// How sure a model is: numbers from the logits of each token, gathered over an answer.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <crayon/concepts.hpp>
#include <crayon/router/logit_signals.hpp>
#include <crayon/router/quantile_sketch.hpp>

namespace crayon::router {

/// Gathers `signals` over the tokens of one answer.
class answer_signals {
 public:
  /// What is known of the question before it is answered.
  explicit answer_signals(float scope_distance = not_measured, float domain_mismatch = not_measured,
                          float question_surprise = not_measured) noexcept {
    seen_.scope_distance = scope_distance;
    seen_.domain_mismatch = domain_mismatch;
    seen_.question_surprise = question_surprise;
  }

  /// The distribution that the next token will be drawn from. Right after prefill this is all there
  /// is: the lowest and highest values can then only become worse, so a policy on them that
  /// already says "server" will not change its mind.
  void look(const logit_signals& at) noexcept {
    seen_.max_probability = worse(seen_.max_probability, at.max_probability, -1);
    seen_.margin = worse(seen_.margin, at.margin, -1);
    seen_.entropy = worse(seen_.entropy, at.entropy, 1);
    seen_.max_logit = worse(seen_.max_logit, at.max_logit, -1);
    seen_.energy = worse(seen_.energy, -at.log_sum_exp, 1);
    log_sum_exp_ = at.log_sum_exp;
  }

  /// The token that was drawn from it had this logit.
  void take(float logit) noexcept {
    const double log_prob = double{logit} - double{log_sum_exp_};
    log_prob_ += log_prob;
    sketch_.add(static_cast<float>(log_prob));
    ++seen_.tokens;
    seen_.mean_log_prob = static_cast<float>(log_prob_ / static_cast<double>(seen_.tokens));
    if (sketch_.count() != seen_.tokens) {  // one was not measured
      seen_.low_log_prob = seen_.median_log_prob = not_measured;
      return;
    }
    seen_.low_log_prob = sketch_.quantile(0.1);
    seen_.median_log_prob = sketch_.quantile(0.5);
  }

  [[nodiscard]] const signals& value() const noexcept { return seen_; }

 private:
  // A NaN that was measured stays: not knowing is not being sure.
  [[nodiscard]] float worse(float so_far, float now, float sign) const noexcept {
    if (seen_.tokens == 0) return now;
    return sign * now > sign * so_far || now != now ? now : so_far;
  }

  signals seen_{not_measured, not_measured, not_measured, not_measured, not_measured, 0};
  log_prob_sketch sketch_;
  double log_prob_ = 0;
  float log_sum_exp_ = not_measured;
};

/// The signals by name, for policies and files that choose one.
enum class signal_kind : std::uint8_t {
  max_probability,
  margin,
  entropy,
  mean_log_prob,
  scope_distance,
  max_logit,
  energy,
  perplexity,  ///< exp(-mean_log_prob)
  low_log_prob,
  median_log_prob,
  domain_mismatch,
  question_surprise
};

inline constexpr std::array<signal_kind, 12> all_signals{
    signal_kind::max_probability, signal_kind::margin,          signal_kind::entropy,
    signal_kind::mean_log_prob,   signal_kind::scope_distance,  signal_kind::max_logit,
    signal_kind::energy,          signal_kind::perplexity,      signal_kind::low_log_prob,
    signal_kind::median_log_prob, signal_kind::domain_mismatch, signal_kind::question_surprise};

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
    case signal_kind::max_logit:
      return "max_logit";
    case signal_kind::energy:
      return "energy";
    case signal_kind::perplexity:
      return "perplexity";
    case signal_kind::low_log_prob:
      return "low_log_prob";
    case signal_kind::median_log_prob:
      return "median_log_prob";
    case signal_kind::domain_mismatch:
      return "domain_mismatch";
    case signal_kind::question_surprise:
      return "question_surprise";
  }
  return "?";
}

[[nodiscard]] constexpr std::optional<signal_kind> signal_of(std::string_view text) noexcept {
  for (const auto which : all_signals) {
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
    case signal_kind::max_logit:
      return seen.max_logit;
    case signal_kind::energy:
      return seen.energy;
    case signal_kind::perplexity:
      return std::exp(-seen.mean_log_prob);
    case signal_kind::low_log_prob:
      return seen.low_log_prob;
    case signal_kind::median_log_prob:
      return seen.median_log_prob;
    case signal_kind::domain_mismatch:
      return seen.domain_mismatch;
    case signal_kind::question_surprise:
      return seen.question_surprise;
  }
  return not_measured;
}

/// True where a larger value means that the device is more likely wrong.
[[nodiscard]] constexpr bool rises_with_risk(signal_kind which) noexcept {
  return which == signal_kind::entropy || which == signal_kind::scope_distance ||
         which == signal_kind::energy || which == signal_kind::perplexity ||
         which == signal_kind::domain_mismatch || which == signal_kind::question_surprise;
}

/// True of signals that there are from the first token of the answer on, not before.
[[nodiscard]] constexpr bool needs_tokens(signal_kind which) noexcept {
  return which == signal_kind::mean_log_prob || which == signal_kind::perplexity ||
         which == signal_kind::low_log_prob || which == signal_kind::median_log_prob;
}

/// The signal, turned so that larger means riskier; its inverse is itself.
[[nodiscard]] constexpr float as_risk(float value, signal_kind which) noexcept {
  return rises_with_risk(which) ? value : -value;
}

/// "Is it riskier than the threshold?", both in the signal's own units. True of a value that was
/// not measured: not knowing is not being sure.
[[nodiscard]] constexpr bool beyond(float value, float threshold, signal_kind which) noexcept {
  return !(as_risk(value, which) <= as_risk(threshold, which));
}

}  // namespace crayon::router
