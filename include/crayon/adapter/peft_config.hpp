// SPDX-License-Identifier: MIT
// adapter_config.json of PEFT, in and out.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/adapter/saved_tensor.hpp>
#include <crayon/adapter/scaling.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/json.hpp>

namespace crayon::adapter {

/// What a PEFT directory says beside the factors.
struct peft_info {
  std::string base_model;               ///< base_model_name_or_path; may be empty
  std::string base_hash;                ///< of the base model's weights; empty: not recorded
  std::string task_type = "CAUSAL_LM";  ///< may be empty
  scaling_rule scaling;                 ///< r, lora_alpha, use_rslora and the patterns
  bool fan_in_fan_out = false;          ///< the base stores W as (in, out); factors do not change
  bool lora_bias = false;               ///< layers with factors also have a bias to add
  bool ensure_weight_tying = false;     ///< what is adapted or saved also counts for tied weights
  std::vector<std::string> target_modules;   ///< as listed; empty when it was a pattern
  std::vector<std::string> modules_to_save;  ///< as listed; `saved` has the tensors that there are
  std::vector<saved_tensor> saved;           ///< in the order of their names
  dtype stored = dtype::f32;                 ///< of the factors on disk; f32 where they differ
};

namespace peft_json {

using json = nlohmann::ordered_json;  // patterns apply in the order of the file

/// Absent, null, false, 0, empty, or the value it has when the feature is off.
[[nodiscard]] inline bool off(const json& config, std::string_view key) {
  const auto at = config.find(std::string(key));
  if (at == config.end() || at->is_null()) return true;
  if (at->is_boolean()) return !at->get<bool>();
  if (at->is_array() || at->is_object()) return at->empty();
  return *at == 0 || (key == "bias" && *at == "none");
}

/// Features that change what the factors mean: dW is not scale * B A, or there is more than dW.
inline constexpr std::array<std::string_view, 13> refused{"use_dora",
                                                          "bias",
                                                          "layer_replication",
                                                          "target_parameters",
                                                          "use_qalora",
                                                          "use_bdlora",
                                                          "arrow_config",
                                                          "monteclora_config",
                                                          "kasa_config",
                                                          "trainable_token_indices",
                                                          "alora_invocation_tokens",
                                                          "megatron_config",
                                                          "enable_lora"};  // PEFT 0.2

/// Configurations of training and of initialisation. `init_lora_weights` says whether the latter
/// took part, so that these may be there.
inline constexpr std::array<std::string_view, 5> harmless{
    "eva_config", "corda_config", "loftq_config", "lora_ga_config", "velora_config"};

/// A feature of a version of PEFT that is newer than this list, to go by how PEFT names them.
[[nodiscard]] inline bool unknown_feature(std::string_view key) {
  if (key == "use_rslora") return false;
  if (std::find(harmless.begin(), harmless.end(), key) != harmless.end()) return false;
  return key.starts_with("use_") || key.ends_with("_config");
}

/// Initialisations that leave the base model as it is. The others (pissa, olora, corda, loftq, ...)
/// subtract something from its weights first, so that the factors alone are not the change.
[[nodiscard]] inline bool keeps_base(const json& init) {
  return init.is_null() || init.is_boolean() || init == "gaussian" || init == "eva" ||
         init == "orthogonal" || init == "mica";
}

/// What PEFT writes as true or false, in `into`.
[[nodiscard]] inline result<void> read_flag(const json& config, const char* key,
                                            const std::string& path, bool& into) {
  const auto at = config.find(key);
  into = !off(config, key);
  if (!into || *at == true || *at == 1) return {};
  return error{errc::bad_value, path + ": " + key + " is " + at->dump() + ", not true or false"};
}

template <class T>
[[nodiscard]] result<void> read_pattern(const json& config, const char* key,
                                        const std::string& path,
                                        std::vector<std::pair<std::string, T>>& into) {
  const auto at = config.find(key);
  if (at == config.end() || at->is_null()) return {};
  const auto bad = [&] {
    return error{errc::bad_format,
                 path + ": " + key + " is " + at->dump() + ", not names to numbers"};
  };
  if (!at->is_object()) return bad();
  for (const auto& [pattern, value] : at->items()) {
    if (std::is_integral_v<T> ? !value.is_number_unsigned() : !value.is_number()) return bad();
    into.emplace_back(pattern, value.template get<T>());
  }
  return {};
}

[[nodiscard]] inline std::string text_or(const json& config, const char* key, std::string other) {
  const auto at = config.find(key);
  return at != config.end() && at->is_string() ? at->get<std::string>() : std::move(other);
}

/// The strings of a list; nothing for anything else.
[[nodiscard]] inline std::vector<std::string> names(const json& list) {
  std::vector<std::string> found;
  if (!list.is_array()) return found;
  for (const auto& n : list) {
    if (n.is_string()) found.push_back(n.get<std::string>());
  }
  return found;
}

/// Integers stay integers, as PEFT writes them.
[[nodiscard]] inline json number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<std::int64_t>(value);
  return value;
}

}  // namespace peft_json

/// Reads the text of an adapter_config.json. `path` names it in errors. Refuses what is not plain
/// LoRA, naming the key and its value.
[[nodiscard]] inline result<peft_info> parse_peft_config(const std::string& path,
                                                         std::string_view text) {
  namespace pj = peft_json;
  const auto config = io::parse_json<pj::json>(text);
  if (!config.is_object()) return error{errc::bad_format, path + ": not a JSON object"};
  const auto value = [&](std::string_view key) {
    const auto at = config.find(std::string(key));
    return at == config.end() ? pj::json() : *at;
  };
  const auto refuse = [&](std::string_view key, std::string_view why) {
    return error{errc::unsupported,
                 path + ": " + std::string(key) + " is " + value(key).dump() + std::string(why)};
  };
  if (value("peft_type") != "LORA") return refuse("peft_type", ", needs \"LORA\"");
  for (const auto key : pj::refused) {
    if (!pj::off(config, key)) return refuse(key, ", which is not plain LoRA and is not supported");
  }
  for (const auto& [key, setting] : config.items()) {
    if (pj::unknown_feature(key) && !pj::off(config, key)) {
      return refuse(key, ", a feature that is not known and may change what the factors mean");
    }
  }
  if (!pj::keeps_base(value("init_lora_weights"))) {
    return refuse("init_lora_weights", ", which changes the base model's weights");
  }
  peft_info info;
  const auto absent = [&](const char* key) { return config.find(key) == config.end(); };
  const auto r = absent("r") ? pj::json(8U) : value("r");  // defaults as PEFT has them
  if (!r.is_number_unsigned() || r.get<std::size_t>() == 0) {
    return error{errc::bad_value, path + ": r is " + r.dump() + ", needs a rank of at least 1"};
  }
  const auto alpha = absent("lora_alpha") ? pj::json(8U) : value("lora_alpha");
  if (!alpha.is_number()) {
    return error{errc::bad_value, path + ": lora_alpha is " + alpha.dump() + ", needs a number"};
  }
  info.scaling.rank = r.get<std::size_t>();
  info.scaling.alpha = alpha.get<double>();
  CRAYON_CHECK(pj::read_flag(config, "use_rslora", path, info.scaling.rslora));
  CRAYON_CHECK(pj::read_pattern(config, "rank_pattern", path, info.scaling.rank_pattern));
  CRAYON_CHECK(pj::read_pattern(config, "alpha_pattern", path, info.scaling.alpha_pattern));
  info.base_model = pj::text_or(config, "base_model_name_or_path", "");
  info.task_type = pj::text_or(config, "task_type", "");
  for (const auto& [key, flag] : {std::pair("fan_in_fan_out", &info.fan_in_fan_out),
                                  std::pair("lora_bias", &info.lora_bias),
                                  std::pair("ensure_weight_tying", &info.ensure_weight_tying)}) {
    CRAYON_CHECK(pj::read_flag(config, key, path, *flag));
  }
  info.target_modules = pj::names(value("target_modules"));
  info.modules_to_save = pj::names(value("modules_to_save"));
  return info;
}

/// The text of an adapter_config.json that PEFT reads.
[[nodiscard]] inline std::string peft_config_text(const peft_info& info) {
  namespace pj = peft_json;
  const auto pattern = [](const auto& entries) {
    auto object = pj::json::object();
    for (const auto& [key, value] : entries) object[key] = pj::number(static_cast<double>(value));
    return object;
  };
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? pj::json() : pj::json(text);
  };
  pj::json config;
  config["alpha_pattern"] = pattern(info.scaling.alpha_pattern);
  config["base_model_name_or_path"] = text_or_null(info.base_model);
  config["bias"] = "none";
  config["fan_in_fan_out"] = info.fan_in_fan_out;
  config["inference_mode"] = true;
  config["init_lora_weights"] = true;
  config["lora_alpha"] = pj::number(info.scaling.alpha);
  config["lora_bias"] = info.lora_bias;
  config["lora_dropout"] = 0.0;
  config["modules_to_save"] =
      info.modules_to_save.empty() ? pj::json() : pj::json(info.modules_to_save);
  config["peft_type"] = "LORA";
  config["r"] = info.scaling.rank;
  config["rank_pattern"] = pattern(info.scaling.rank_pattern);
  config["target_modules"] = info.target_modules;
  config["task_type"] = text_or_null(info.task_type);
  config["use_dora"] = false;
  config["use_rslora"] = info.scaling.rslora;
  return config.dump(2, ' ', false, pj::json::error_handler_t::replace) + "\n";
}

}  // namespace crayon::adapter
