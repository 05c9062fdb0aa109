// SPDX-License-Identifier: MIT
// What a calibrated threshold promises, and what happens where nothing can be promised.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <crayon/router/signals.hpp>

namespace crayon::router {

/// Of which queries the risk is the share.
enum class risk_share : std::uint8_t {
  of_all,   ///< P(kept and wrong): of all that come, those that the device answers, wrongly
  of_kept,  ///< P(wrong | kept): of those that the device answers; the selective risk
};

enum class promise_kind : std::uint8_t {
  none,
  mean,             ///< E[risk] <= alpha: over calibration sets and queries together
  with_confidence,  ///< P(risk <= alpha) >= 1 - delta, over calibration sets
};

/// When the signals were seen that a threshold was calibrated on, and is to be asked about.
enum class seen_at : std::uint8_t { after_prefill, after_answer };

[[nodiscard]] constexpr std::string_view name(seen_at when) noexcept {
  return when == seen_at::after_prefill ? "after_prefill" : "after_answer";
}

[[nodiscard]] constexpr std::optional<seen_at> seen_at_of(std::string_view text) noexcept {
  for (const auto when : {seen_at::after_prefill, seen_at::after_answer}) {
    if (name(when) == text) return when;
  }
  return std::nullopt;
}

/// All hold for queries that come as the calibration queries came (exchangeable, for
/// `with_confidence` independent and alike), and for what the threshold is bound to.
struct promise {
  promise_kind kind = promise_kind::none;
  risk_share share = risk_share::of_all;
  double alpha = 0;
  double delta = 0;         ///< of `with_confidence`
  std::size_t queries = 0;  ///< it was calibrated on, those without a score included

  friend bool operator==(const promise&, const promise&) = default;
};

[[nodiscard]] constexpr std::string_view name(risk_share share) noexcept {
  return share == risk_share::of_all ? "of_all" : "of_kept";
}

[[nodiscard]] constexpr std::string_view name(promise_kind kind) noexcept {
  switch (kind) {
    case promise_kind::none:
      return "none";
    case promise_kind::mean:
      return "mean";
    case promise_kind::with_confidence:
      return "with_confidence";
  }
  return "?";
}

namespace detail {

/// As short as 6 digits allow: "0.05", "1e-05".
[[nodiscard]] inline std::string short_number(double value) {
  std::string text(32, '\0');
  text.resize(static_cast<std::size_t>(std::snprintf(text.data(), text.size(), "%.6g", value)));
  return text;
}

}  // namespace detail

/// One line for people: "P(kept and wrong) <= 0.1 with probability 0.95, from 500 queries".
[[nodiscard]] inline std::string words(const promise& made) {
  if (made.kind == promise_kind::none) return "nothing is promised";
  std::string text = made.share == risk_share::of_all ? "P(kept and wrong)" : "P(wrong | kept)";
  text += " <= " + detail::short_number(made.alpha);
  text += made.kind == promise_kind::mean
              ? " in the mean"
              : " with probability " + detail::short_number(1 - made.delta);
  return text + ", from " + std::to_string(made.queries) + " queries";
}

/// Queries whose risk is at most `risk` are kept; all others go to the server, and so does what has
/// no score.
struct calibrated_threshold {
  static constexpr float keeps_none = -std::numeric_limits<float>::infinity();

  float risk = keeps_none;
  promise made;
  double observed = 0;   ///< risk on the calibration queries; of_kept, none kept: 0
  double call_rate = 1;  ///< share of the calibration queries that went to the server

  [[nodiscard]] constexpr bool keeps(float seen) const noexcept {
    return risk > keeps_none && seen <= risk;  // false of NaN
  }
};

/// Where no threshold can be promised: an error that says what it would take.
struct refuse {
  static constexpr std::string_view name() noexcept { return "refuse"; }
  [[nodiscard]] static result<calibrated_threshold> instead(const promise&, std::string why) {
    return error{errc::infeasible, std::move(why)};
  }
};

/// Where no threshold can be promised: nothing is kept, which has no risk.
struct all_to_server {
  static constexpr std::string_view name() noexcept { return "all_to_server"; }
  [[nodiscard]] static result<calibrated_threshold> instead(const promise& made, std::string) {
    calibrated_threshold none;
    none.made = made;
    return none;
  }
};

template <class P>
concept infeasible_policy = requires(const promise& made, std::string why) {
  { P::name() } -> std::convertible_to<std::string_view>;
  // never a threshold that keeps anything
  { P::instead(made, why) } -> std::same_as<result<calibrated_threshold>>;
};
static_assert(infeasible_policy<refuse> && infeasible_policy<all_to_server>);

/// Scores and losses of calibration queries -> a threshold and what it promises.
template <class C>
concept calibrator = requires(const C& c, std::span<const float> risks,
                              std::span<const float> losses) {
  { C::name() } -> std::convertible_to<std::string_view>;
  { C::promises } -> std::convertible_to<promise_kind>;
  // risks: larger is riskier, NaN: not measured; losses of the device's answers: 0 right, 1 wrong
  { c.fit(risks, losses) } -> std::same_as<result<calibrated_threshold>>;
};

namespace detail {

/// `binary`: nothing between 0 and 1 either.
[[nodiscard]] inline result<void> check_calibration(std::span<const float> risks,
                                                    std::span<const float> losses, bool binary) {
  const auto wrong = [](std::string text) {
    return error{errc::bad_value, "router calibration: " + std::move(text)};
  };
  if (risks.size() != losses.size()) {
    return wrong(std::to_string(risks.size()) + " scores and " + std::to_string(losses.size()) +
                 " losses");
  }
  for (std::size_t i = 0; i < risks.size(); ++i) {
    if (risks[i] == calibrated_threshold::keeps_none) {
      return wrong("the risk of query " + std::to_string(i) + " is -infinity");
    }
    const float l = losses[i];
    if (binary ? l != 0 && l != 1 : !(l >= 0 && l <= 1)) {
      return wrong("the loss of query " + std::to_string(i) + " is " + short_number(double{l}) +
                   (binary ? ", expected 0 or 1" : ", expected 0 to 1"));
    }
  }
  return {};
}

[[nodiscard]] inline result<void> check_level(const char* what, double value) {
  if (value > 0 && value < 1) return {};
  return error{errc::bad_value, std::string("router calibration: ") + what + " is " +
                                    short_number(value) + ", expected above 0 and below 1"};
}

}  // namespace detail
}  // namespace crayon::router
