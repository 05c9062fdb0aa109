// SPDX-License-Identifier: MIT
// A router on disk: thresholds, a line, what they promise, and what they were fitted to.
#pragma once

#include <algorithm>
#include <cmath>
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
#include <crayon/serve/router_members.hpp>

namespace crayon::serve {

/// {"format": "crayon-router-3", "policy": "any_of" or "all_of",
///  "thresholds": [{"signal": "margin", "threshold": 0.3}, ...],
///  "line": null or {"signals": ["margin", ...], "weights": [-2.5, ...], "bias": 0.1,
///    "threshold": 0.5},
///  "promise": null or {"kind": "mean" or "with_confidence", "share": "of_all" or "of_kept",
///    "alpha": 0.1, "delta": 0.05, "queries": 500, "observed": 0.07, "call_rate": 0.3,
///    "signal": "margin", "seen": "after_prefill" or "after_answer", "threshold": 0.4},
///  "budget": null or {"share": 0.2, "burst": 0},
///  "bound_to": {"model": "...", "quantisation": "F32", "adapter": "...", "blend": "...",
///    "template": "...", "server": "...", "domains": "..."}}
/// Thresholds are in the signals' own units, those of lines probabilities that the device is wrong;
/// null in a promise: nothing is kept. A promise on a line has "line": {"signals", "weights",
/// "bias"} in place of "signal". There is no budget beside a promise. Files of format 2 have no
/// line, no budget and no domains.
struct router_file {
  router::rules policy;
  router::binding bound_to;
};

namespace detail {

inline constexpr std::string_view router_format = "crayon-router-3";
inline constexpr std::string_view router_format_before = "crayon-router-2";

/// What `decide` would do must be what was promised.
[[nodiscard]] inline result<void> check_promise(const router::rules& policy) {
  const auto* kept = policy.promise_kept();
  if (kept == nullptr) return {};
  if (policy.promised && policy.promised_line) {
    return error{errc::bad_format, "promise is on a signal and on a line: one at a time"};
  }
  if (policy.budget) {
    return error{errc::bad_format, "budget: it would keep what the promise sends"};
  }
  if (kept->made.share == router::risk_share::of_all) return {};
  const bool alone = policy.thresholds.empty() && !policy.line;
  if (alone && policy.combine == router::rules::combination::any_of) return {};
  return error{errc::bad_format,
               "promise.share is \"of_kept\", which other thresholds beside it would change"};
}

/// What format 2 did not have would not be looked at by what reads format 2.
[[nodiscard]] inline result<void> check_before(const nlohmann::json& body) {
  for (const char* at : {"/line", "/budget", "/promise/line", "/bound_to/domains"}) {
    const nlohmann::json::json_pointer member(at);
    if (!body.contains(member) || body.at(member).is_null()) continue;
    std::string name(at + 1);
    std::replace(name.begin(), name.end(), '/', '.');
    return error{errc::bad_format,
                 name + ": \"" + std::string(router_format_before) + "\" has none"};
  }
  return {};
}

[[nodiscard]] inline result<router_file> router_from(const nlohmann::json& body) {
  const auto wrong = [](std::string text) { return error{errc::bad_format, std::move(text)}; };
  if (!body.is_object()) return wrong("not a JSON object");
  const router_member top(body, "");
  const std::string format = top.text("format");
  if (format != router_format && format != router_format_before) {
    return wrong("format is \"" + format + "\", expected \"" + std::string(router_format) + "\"");
  }
  if (format == router_format_before) {
    CRAYON_CHECK(check_before(body));
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
  if (const auto line = body.value("line", nlohmann::json()); !line.is_null()) {
    CRAYON_TRY(file.policy.line, line_from(line, "line."));
    CRAYON_TRY(const double threshold, router_member(line, "line.").number("threshold"));
    file.policy.line->threshold = static_cast<float>(threshold);
  }
  if (const auto promise = body.value("promise", nlohmann::json()); !promise.is_null()) {
    CRAYON_CHECK(read_promise(promise, file.policy));
  }
  if (const auto budget = body.value("budget", nlohmann::json()); !budget.is_null()) {
    CRAYON_TRY(file.policy.budget, budget_from(budget));
  }
  CRAYON_CHECK(check_promise(file.policy));
  const auto bound = body.value("bound_to", nlohmann::json());
  if (!bound.is_object()) return wrong("bound_to is missing: what the thresholds were fitted to");
  for (const auto& [field, member] : router::binding_fields) {
    file.bound_to.*member = router_member(bound, "").text(std::string(field).c_str());
  }
  if (format == router_format_before) file.bound_to.domains = router::binding::none;
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
  CRAYON_CHECK(router::check_stated(file->bound_to, file->policy.promise_kept() != nullptr, path));
  return file;
}

/// As a whole or not at all, under a temporary name first. Errors: a threshold that is no number, a
/// field of `bound_to` that is empty.
[[nodiscard]] inline result<void> write_router(const std::string& path, const router_file& file) {
  CRAYON_CHECK(router::check_stated(file.bound_to, file.policy.promise_kept() != nullptr, path));
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
  if (const auto& line = file.policy.line) {
    CRAYON_TRY(body["line"], detail::line_json(*line, path));
    body["line"]["threshold"] = line->threshold;
  }
  if (const auto* at = file.policy.promise_kept()) {
    const auto& promised = file.policy.promised;
    const auto& line = file.policy.promised_line;
    const auto& made = at->made;
    if (made.kind == router::promise_kind::none || at->risk != at->risk) {
      return error{errc::bad_value, path + ": its promise is none"};
    }
    auto& out = body["promise"];
    out = {{"kind", name(made.kind)}, {"share", name(made.share)}, {"alpha", made.alpha}};
    if (made.kind == router::promise_kind::with_confidence) out["delta"] = made.delta;
    out["queries"] = made.queries;
    out["observed"] = at->observed;
    out["call_rate"] = at->call_rate;
    if (promised) {
      out["signal"] = name(promised->on);
    } else {
      CRAYON_TRY(out["line"], detail::line_json(line->line, path));
    }
    out["seen"] = name(promised ? promised->when : line->when);
    out["threshold"] = nullptr;
    if (std::isfinite(at->risk)) {
      out["threshold"] = promised ? router::as_risk(at->risk, promised->on) : at->risk;
    }
  }
  if (const auto& budget = file.policy.budget) {
    body["budget"] = {{"share", budget->share()}, {"burst", budget->burst()}};
  }
  for (const auto& [field, member] : router::binding_fields) {
    body["bound_to"][std::string(field)] = file.bound_to.*member;
  }
  return io::write_text(path, body.dump(2) + "\n");
}

}  // namespace crayon::serve
