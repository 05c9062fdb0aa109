// SPDX-License-Identifier: MIT
// A router on disk: thresholds, what they promise, and what they were fitted to.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/json.hpp>
#include <crayon/router/binding.hpp>
#include <crayon/router/rules.hpp>

namespace crayon::serve {

/// {"format": "crayon-router-2", "policy": "any_of" or "all_of",
///  "thresholds": [{"signal": "margin", "threshold": 0.3}, ...],
///  "promise": null or {"kind": "mean" or "with_confidence", "share": "of_all" or "of_kept",
///    "alpha": 0.1, "delta": 0.05, "queries": 500, "observed": 0.07, "call_rate": 0.3,
///    "signal": "margin", "seen": "after_prefill" or "after_answer", "threshold": 0.4},
///  "bound_to": {"model": "...", "quantisation": "F32", "adapter": "...", "blend": "...",
///    "template": "...", "server": "..."}}
/// Thresholds are in the signals' own units; null in a promise: nothing is kept.
struct router_file {
  router::rules policy;
  router::binding bound_to;
};

namespace detail {

inline constexpr std::string_view router_format = "crayon-router-2";

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

[[nodiscard]] inline result<router::bounded_risk> promise_from(const nlohmann::json& body) {
  using router::promise_kind;
  using router::risk_share;
  if (!body.is_object()) return error{errc::bad_format, "promise is not an object"};
  const router_member at(body, "promise.");
  router::bounded_risk out;
  router::promise& made = out.at.made;
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
  CRAYON_TRY(out.on, at.one_of("signal", router::signal_of, "the name of a signal"));
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
    out.at.risk = router::as_risk(static_cast<float>(threshold), out.on);
  }
  if (out.when == router::seen_at::after_prefill && needs_tokens(out.on)) {
    return error{errc::bad_format, "promise.seen is \"after_prefill\", where " +
                                       std::string(name(out.on)) + " is not known"};
  }
  for (const auto& [key, share] :
       {std::pair("observed", out.at.observed), std::pair("call_rate", out.at.call_rate)}) {
    if (share >= 0 && share <= 1) continue;
    return error{errc::bad_format,
                 "promise." + std::string(key) + " is " + std::to_string(share) + ", not a share"};
  }
  const bool too_few = made.kind == promise_kind::mean
                           ? 1 / (queries + 1) > made.alpha
                           : made.share == risk_share::of_all &&
                                 std::pow(1 - made.alpha, queries) > made.delta;
  if (!none && too_few) {
    return error{errc::bad_format, "promise.queries is " + std::to_string(made.queries) +
                                       ", from which nothing like it can be promised"};
  }
  return out;
}

/// What `decide` would do must be what was promised.
[[nodiscard]] inline result<void> check_promise(const router::rules& policy) {
  if (!policy.promised || policy.promised->at.made.share == router::risk_share::of_all) return {};
  if (policy.thresholds.empty() && policy.combine == router::rules::combination::any_of) return {};
  return error{errc::bad_format,
               "promise.share is \"of_kept\", which other thresholds beside it would change"};
}

[[nodiscard]] inline result<router_file> router_from(const nlohmann::json& body) {
  const auto wrong = [](std::string text) { return error{errc::bad_format, std::move(text)}; };
  if (!body.is_object()) return wrong("not a JSON object");
  const router_member top(body, "");
  const std::string format = top.text("format");
  if (format != router_format) {
    return wrong("format is \"" + format + "\", expected \"" + std::string(router_format) + "\"");
  }
  router_file file;
  const std::string policy = top.text("policy");
  if (policy != "any_of" && policy != "all_of") {
    return wrong("policy is \"" + policy + "\", expected \"any_of\" or \"all_of\"");
  }
  file.policy.combine =
      policy == "any_of" ? router::rules::combination::any_of : router::rules::combination::all_of;
  const auto thresholds = body.value("thresholds", nlohmann::json());
  if (!thresholds.is_array()) return wrong("thresholds is not a list");
  for (const auto& one : thresholds) {
    if (!one.is_object()) return wrong("a threshold is " + one.dump() + ", expected an object");
    const std::string kind = router_member(one, "").text("signal");
    const auto signal = router::signal_of(kind);
    if (!signal) return wrong("unknown signal \"" + kind + "\"");
    CRAYON_TRY(const double value,
               router_member(one, std::string(name(*signal)) + ".").number("threshold"));
    file.policy.thresholds.push_back({*signal, static_cast<float>(value)});
  }
  if (const auto promise = body.value("promise", nlohmann::json()); !promise.is_null()) {
    CRAYON_TRY(file.policy.promised, promise_from(promise));
  }
  CRAYON_CHECK(check_promise(file.policy));
  const auto bound = body.value("bound_to", nlohmann::json());
  if (!bound.is_object()) return wrong("bound_to is missing: what the thresholds were fitted to");
  for (const auto& [field, member] : router::binding_fields) {
    file.bound_to.*member = router_member(bound, "").text(std::string(field).c_str());
  }
  return file;
}

}  // namespace detail

/// Errors: no such file, another format, a field of `bound_to` that is missing or empty.
[[nodiscard]] inline result<router_file> read_router(const std::string& path) {
  CRAYON_TRY(const std::string text, io::read_text(path));
  const auto body = io::parse_json(text);
  if (body.is_discarded()) return error{errc::bad_format, path + ": malformed JSON"};
  auto file = detail::router_from(body);
  if (!file) return error{file.error().code, path + ": " + file.error().text};
  CRAYON_CHECK(router::check_stated(file->bound_to, file->policy.promised.has_value(), path));
  return file;
}

/// As a whole or not at all, under a temporary name first. Errors: a threshold that is no number, a
/// field of `bound_to` that is empty.
[[nodiscard]] inline result<void> write_router(const std::string& path, const router_file& file) {
  CRAYON_CHECK(router::check_stated(file.bound_to, file.policy.promised.has_value(), path));
  if (const auto kept = detail::check_promise(file.policy); !kept) {
    return error{kept.error().code, path + ": " + kept.error().text};
  }
  nlohmann::ordered_json body;
  body["format"] = detail::router_format;
  body["policy"] = file.policy.combine == router::rules::combination::any_of ? "any_of" : "all_of";
  body["thresholds"] = nlohmann::ordered_json::array();
  for (const auto& one : file.policy.thresholds) {
    if (!std::isfinite(one.threshold)) {
      return error{errc::bad_value, path + ": the threshold of " + std::string(name(one.on)) +
                                        " is not a finite number"};
    }
    body["thresholds"].push_back({{"signal", name(one.on)}, {"threshold", one.threshold}});
  }
  if (const auto& promised = file.policy.promised) {
    const auto& made = promised->at.made;
    if (made.kind == router::promise_kind::none || promised->at.risk != promised->at.risk) {
      return error{errc::bad_value, path + ": its promise is none"};
    }
    auto& out = body["promise"];
    out = {{"kind", name(made.kind)}, {"share", name(made.share)}, {"alpha", made.alpha}};
    if (made.kind == router::promise_kind::with_confidence) out["delta"] = made.delta;
    out["queries"] = made.queries;
    out["observed"] = promised->at.observed;
    out["call_rate"] = promised->at.call_rate;
    out["signal"] = name(promised->on);
    out["seen"] = name(promised->when);
    out["threshold"] = nullptr;
    if (std::isfinite(promised->at.risk)) {
      out["threshold"] = router::as_risk(promised->at.risk, promised->on);
    }
  }
  for (const auto& [field, member] : router::binding_fields) {
    body["bound_to"][std::string(field)] = file.bound_to.*member;
  }
  return io::write_text(path, body.dump(2) + "\n");
}

}  // namespace crayon::serve
