// SPDX-License-Identifier: MIT
// The parts of a router file as JSON.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <crayon/core/result.hpp>
#include <crayon/router/rules.hpp>

namespace crayon::serve::detail {

/// What a member of a JSON object has to be, or an error that names it.
class router_member {
 public:
  router_member(const nlohmann::json& object, std::string_view where)
      : object_(object), where_(where) {}

  [[nodiscard]] std::string text(const char* key) const {
    const auto value = object_.value(key, nlohmann::json());
    return value.is_string() ? value.get<std::string>() : std::string();
  }
  [[nodiscard]] result<double> number(const char* key) const {
    const auto value = object_.value(key, nlohmann::json());
    if (value.is_number() && std::isfinite(value.get<float>())) return value.get<double>();
    return wrong(key, value.dump(), "a number");
  }
  [[nodiscard]] result<double> level(const char* key) const {
    CRAYON_TRY(const double value, number(key));
    if (value > 0 && value < 1) return value;
    return wrong(key, router::detail::short_number(value), "above 0 and below 1");
  }
  /// The enumerator that `named` knows the text as.
  template <class Named>
  [[nodiscard]] auto one_of(const char* key, Named named, std::string_view expected) const
      -> result<typename decltype(named(std::string_view()))::value_type> {
    const std::string value = text(key);
    if (const auto found = named(value)) return *found;
    return wrong(key, "\"" + value + "\"", expected);
  }

 private:
  [[nodiscard]] error wrong(const char* key, const std::string& is,
                            std::string_view expected) const {
    std::string text(where_);
    text.append(key).append(" is ").append(is).append(", expected ").append(expected);
    return {errc::bad_format, std::move(text)};
  }

  const nlohmann::json& object_;
  std::string_view where_;
};

/// Signals, weights and bias; `where` stands in errors: "line.".
[[nodiscard]] inline result<router::linear> line_from(const nlohmann::json& body,
                                                      std::string_view where) {
  const auto wrong = [&](std::string_view text) {
    return error{errc::bad_format, std::string(where).append(text)};
  };
  if (!body.is_object()) return wrong("signals is missing: a line is an object");
  const auto on = body.value("signals", nlohmann::json());
  const auto weights = body.value("weights", nlohmann::json());
  if (!on.is_array() || !weights.is_array() || on.empty() || on.size() != weights.size()) {
    return wrong("signals and weights are not two lists of one length above 0");
  }
  router::linear line;
  for (std::size_t i = 0; i < on.size(); ++i) {
    const auto signal =
        on[i].is_string() ? router::signal_of(on[i].get<std::string>()) : std::nullopt;
    if (!signal || std::find(line.on.begin(), line.on.end(), *signal) != line.on.end()) {
      return wrong("signals has " + on[i].dump() + ", expected names of signals, each once");
    }
    if (!weights[i].is_number() || !std::isfinite(weights[i].get<double>())) {
      return wrong("weights has " + weights[i].dump() + ", expected numbers");
    }
    line.on.push_back(*signal);
    line.weight.push_back(weights[i].get<double>());
  }
  CRAYON_TRY(line.bias, router_member(body, where).number("bias"));
  return line;
}

[[nodiscard]] inline bool needs_tokens(const router::linear& line) noexcept {
  return std::any_of(line.on.begin(), line.on.end(),
                     [](router::signal_kind on) { return router::needs_tokens(on); });
}

/// Into `policy.promised`, or into `policy.promised_line` where it is on a line.
[[nodiscard]] inline result<void> read_promise(const nlohmann::json& body, router::rules& policy) {
  using router::promise_kind;
  using router::risk_share;
  if (!body.is_object()) return error{errc::bad_format, "promise is not an object"};
  const router_member at(body, "promise.");
  router::bounded_risk out;
  router::promise& made = out.at.made;
  std::optional<router::linear> line;
  if (body.contains("line")) {
    if (body.contains("signal")) {
      return error{errc::bad_format, "promise is on a signal and on a line: one at a time"};
    }
    CRAYON_TRY(line, line_from(body["line"], "promise.line."));
  }
  const auto pick = [](auto first, auto second) {
    return [=](std::string_view text) {
      return text == name(first)    ? std::optional(first)
             : text == name(second) ? std::optional(second)
                                    : std::nullopt;
    };
  };
  CRAYON_TRY(made.kind, at.one_of("kind", pick(promise_kind::mean, promise_kind::with_confidence),
                                  "\"mean\" or \"with_confidence\""));
  CRAYON_TRY(made.share, at.one_of("share", pick(risk_share::of_all, risk_share::of_kept),
                                   "\"of_all\" or \"of_kept\""));
  if (!line) {
    CRAYON_TRY(out.on, at.one_of("signal", router::signal_of, "the name of a signal"));
  }
  CRAYON_TRY(out.when,
             at.one_of("seen", router::seen_at_of, "\"after_prefill\" or \"after_answer\""));
  CRAYON_TRY(made.alpha, at.level("alpha"));
  CRAYON_TRY(out.at.observed, at.number("observed"));
  CRAYON_TRY(out.at.call_rate, at.number("call_rate"));
  CRAYON_TRY(const double queries, at.number("queries"));
  if (!(queries >= 0 && queries < 1e15 && queries == std::floor(queries))) {
    return error{errc::bad_format, "promise.queries is not a count"};
  }
  made.queries = static_cast<std::size_t>(queries);
  if (made.kind == promise_kind::with_confidence) {
    CRAYON_TRY(made.delta, at.level("delta"));
  } else if (made.share != risk_share::of_all) {
    return error{errc::bad_format, "promise.share is \"of_kept\": not a mean promises that"};
  }
  const bool none = body.contains("threshold") && body["threshold"].is_null();
  if (!none) {
    CRAYON_TRY(const double threshold, at.number("threshold"));
    const auto value = static_cast<float>(threshold);
    out.at.risk = line ? value : router::as_risk(value, out.on);
  }
  if (out.when == router::seen_at::after_prefill &&
      (line ? needs_tokens(*line) : router::needs_tokens(out.on))) {
    return error{errc::bad_format, "promise.seen is \"after_prefill\", where " +
                                       std::string(line ? "the line" : name(out.on)) +
                                       " is not known"};
  }
  for (const auto& [key, share] :
       {std::pair("observed", out.at.observed), std::pair("call_rate", out.at.call_rate)}) {
    if (share >= 0 && share <= 1) continue;
    return error{errc::bad_format,
                 "promise." + std::string(key) + " is " + std::to_string(share) + ", not a share"};
  }
  const bool too_few =
      made.kind == promise_kind::mean
          ? 1 / (queries + 1) > made.alpha
          : made.share == risk_share::of_all && std::pow(1 - made.alpha, queries) > made.delta;
  if (!none && too_few) {
    return error{errc::bad_format, "promise.queries is " + std::to_string(made.queries) +
                                       ", from which nothing like it can be promised"};
  }
  if (line) {
    policy.promised_line = router::bounded_line{out.at, *std::move(line), out.when};
  } else {
    policy.promised = out;
  }
  return {};
}

[[nodiscard]] inline result<std::shared_ptr<router::call_budget>> budget_from(
    const nlohmann::json& body) {
  if (!body.is_object()) return error{errc::bad_format, "budget is not an object"};
  const router_member at(body, "budget.");
  CRAYON_TRY(const double share, at.number("share"));
  CRAYON_TRY(const double burst, at.number("burst"));
  if (!(share >= 0 && share <= 1)) {
    return error{errc::bad_format,
                 "budget.share is " + router::detail::short_number(share) + ", expected 0 to 1"};
  }
  if (!(burst >= 0 && burst < 1e15 && burst == std::floor(burst))) {
    return error{errc::bad_format, "budget.burst is not a count"};
  }
  return std::make_shared<router::call_budget>(share, static_cast<std::size_t>(burst));
}

[[nodiscard]] inline result<nlohmann::ordered_json> line_json(const router::linear& line,
                                                              const std::string& path) {
  bool good = !line.on.empty() && line.on.size() == line.weight.size() &&
              std::isfinite(line.bias) && std::isfinite(line.threshold);
  nlohmann::ordered_json out;
  for (std::size_t j = 0; good && j < line.on.size(); ++j) {
    good = std::isfinite(line.weight[j]);
    out["signals"].push_back(name(line.on[j]));
    out["weights"].push_back(line.weight[j]);
  }
  if (!good) return error{errc::bad_value, path + ": its line is not of finite numbers"};
  out["bias"] = line.bias;
  return out;
}

}  // namespace crayon::serve::detail
