// SPDX-License-Identifier: MIT
// What thresholds were fitted to, and hold for.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include <crayon/core/result.hpp>

namespace crayon::router {

/// Every field is stated. Hashes and names are compared as text; `any_of_them` is for what the
/// calibration queries were a mix of, many users' adapters for example.
struct binding {
  static constexpr std::string_view any_of_them = "any";
  static constexpr std::string_view none = "none";

  std::string model;            ///< weights and configuration: `llama_weights::hash`
  std::string quantisation;     ///< element of the model's matrices, as it runs: "F32"
  std::string adapter;          ///< hash of the adapter in use, or "none"
  std::string blend;            ///< its policy and pool, or "none": an adapter that came as it is
  std::string prompt_template;  ///< hash of the text around a prompt, or "none"
  std::string server;           ///< name of the server's model
  std::string domains = std::string(none);  ///< `match::domain_hash` of the space, or "none"

  friend bool operator==(const binding&, const binding&) = default;
};

/// The fields by name, as files and errors have them.
inline constexpr std::array<std::pair<std::string_view, std::string binding::*>, 7> binding_fields{
    {{"model", &binding::model},
     {"quantisation", &binding::quantisation},
     {"adapter", &binding::adapter},
     {"blend", &binding::blend},
     {"template", &binding::prompt_template},
     {"server", &binding::server},
     {"domains", &binding::domains}}};

/// Errors: a field that is empty; `any_of_them` where a promise depends on what it is (all but the
/// adapter, of which there may be one per user, and the server). `where` stands in errors.
[[nodiscard]] inline result<void> check_stated(const binding& bound, bool promised,
                                               std::string_view where) {
  const auto wrong = [&](std::string_view field, std::string_view what) {
    std::string text(where);
    return error{errc::bad_format, text.append(": bound_to.").append(field).append(what)};
  };
  for (const auto& [field, member] : binding_fields) {
    const std::string& value = bound.*member;
    if (value.empty()) {
      return wrong(field, " is missing or empty: thresholds hold for what they were fitted to");
    }
    const bool may_vary = member == &binding::adapter || member == &binding::server;
    if (promised && !may_vary && value == binding::any_of_them) {
      return wrong(field, " is \"any\": a promise holds for one");
    }
  }
  return {};
}

/// Refuses thresholds that were fitted to something else than what they are about to be used with.
/// An empty field of `used` is not known, and matches `any_of_them` only.
[[nodiscard]] inline result<void> check_binding(const binding& bound, const binding& used,
                                                std::string_view where) {
  CRAYON_CHECK(check_stated(bound, false, where));
  for (const auto& [field, member] : binding_fields) {
    const std::string& expected = bound.*member;
    const std::string& actual = used.*member;
    if (expected == actual || expected == binding::any_of_them) continue;
    std::string text(where);
    text.append(": its thresholds were fitted to the ").append(field).append(" ").append(expected);
    text.append(", not to ").append(actual.empty() ? "one that is not known" : actual);
    return error{errc::mismatch, std::move(text)};
  }
  return {};
}

}  // namespace crayon::router
