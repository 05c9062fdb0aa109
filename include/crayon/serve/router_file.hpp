// SPDX-License-Identifier: MIT
// A router on disk: thresholds, and what they were fitted to.
#pragma once

#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/json.hpp>
#include <crayon/router/rules.hpp>

namespace crayon::serve {

/// What the thresholds hold for. An empty field is not bound.
struct router_binding {
  std::string model;    ///< llama_weights::hash() of the device's model
  std::string adapter;  ///< hash of the customized adapter
  std::string server;   ///< name of the server's model

  friend bool operator==(const router_binding&, const router_binding&) = default;
};

/// {"format": "crayon-router-1", "policy": "any_of" or "all_of",
///  "thresholds": [{"signal": "margin", "threshold": 0.3}, ...], "bound_to": {"model": "...", ...}}
struct router_file {
  router::rules policy;
  router_binding bound_to;
};

namespace detail {

inline constexpr std::string_view router_format = "crayon-router-1";

[[nodiscard]] inline result<router_file> router_from(const nlohmann::json& body) {
  const auto wrong = [](std::string text) { return error{errc::bad_format, std::move(text)}; };
  const auto text_at = [](const nlohmann::json& object, const char* key) {
    const auto value = object.value(key, nlohmann::json());
    return value.is_string() ? value.get<std::string>() : std::string();
  };
  if (!body.is_object()) return wrong("not a JSON object");
  const std::string format = text_at(body, "format");
  if (format != router_format) {
    return wrong("format is \"" + format + "\", expected \"" + std::string(router_format) + "\"");
  }
  router_file file;
  const std::string policy = text_at(body, "policy");
  if (policy != "any_of" && policy != "all_of") {
    return wrong("policy is \"" + policy + "\", expected \"any_of\" or \"all_of\"");
  }
  file.policy.combine =
      policy == "any_of" ? router::rules::combination::any_of : router::rules::combination::all_of;
  const auto thresholds = body.value("thresholds", nlohmann::json());
  if (!thresholds.is_array()) return wrong("thresholds is not a list");
  for (const auto& one : thresholds) {
    if (!one.is_object()) return wrong("a threshold is " + one.dump() + ", expected an object");
    const auto signal = router::signal_of(text_at(one, "signal"));
    if (!signal) return wrong("unknown signal \"" + text_at(one, "signal") + "\"");
    const auto value = one.value("threshold", nlohmann::json());
    if (!value.is_number() || !std::isfinite(value.get<float>())) {
      return wrong("the threshold of " + std::string(name(*signal)) + " is " + value.dump() +
                   ", expected a number");
    }
    file.policy.thresholds.push_back({*signal, value.get<float>()});
  }
  const auto bound = body.value("bound_to", nlohmann::json::object());
  if (!bound.is_object()) return wrong("bound_to is not an object");
  file.bound_to = {text_at(bound, "model"), text_at(bound, "adapter"), text_at(bound, "server")};
  return file;
}

}  // namespace detail

[[nodiscard]] inline result<router_file> read_router(const std::string& path) {
  CRAYON_TRY(const std::string text, io::read_text(path));
  const auto body = io::parse_json(text);
  if (body.is_discarded()) return error{errc::bad_format, path + ": malformed JSON"};
  auto file = detail::router_from(body);
  if (!file) return error{file.error().code, path + ": " + file.error().text};
  return file;
}

[[nodiscard]] inline result<void> write_router(const std::string& path, const router_file& file) {
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
  const auto& bound = file.bound_to;
  body["bound_to"] = {{"model", bound.model}, {"adapter", bound.adapter}, {"server", bound.server}};
  return io::write_text(path, body.dump(2) + "\n");
}

/// Refuses a router that was fitted to something else than what it is about to be used with.
[[nodiscard]] inline result<void> check_binding(const router_binding& bound,
                                                const router_binding& used,
                                                const std::string& path) {
  const auto check = [&](const char* what, const std::string& expected,
                         const std::string& actual) -> result<void> {
    if (expected.empty() || expected == actual) return {};
    return error{errc::mismatch, path + ": its thresholds were fitted to the " + what + " " +
                                     expected + ", not to " +
                                     (actual.empty() ? std::string("none") : actual)};
  };
  CRAYON_CHECK(check("model", bound.model, used.model));
  CRAYON_CHECK(check("adapter", bound.adapter, used.adapter));
  return check("server", bound.server, used.server);
}

}  // namespace crayon::serve
