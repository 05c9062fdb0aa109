// SPDX-License-Identifier: MIT
// adapter_config.json of PEFT, in and out.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

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
  std::vector<std::string> target_modules;  ///< as listed; empty when it was a pattern
};

namespace peft_json {

using json = nlohmann::ordered_json;  // patterns apply in the order of the file

/// Absent, null, false, empty, or the value it has when the feature is off.
[[nodiscard]] inline bool off(const json& config, std::string_view key) {
  const auto at = config.find(std::string(key));
  if (at == config.end() || at->is_null()) return true;
  if (at->is_boolean()) return !at->get<bool>();
  if (at->is_array() || at->is_object()) return at->empty();
  return key == "bias" && *at == "none";
}

/// Features that change what the factors mean: dW is not scale * B A, or there is more than dW.
inline constexpr std::array<std::string_view, 14> refused{"use_dora",
                                                          "modules_to_save",
                                                          "lora_bias",
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
                                                          "megatron_config"};

/// Initialisations that leave the base model as it is. The others (pissa, olora, corda, loftq, ...)
/// subtract something from its weights first, so that the factors alone are not the change.
[[nodiscard]] inline bool keeps_base(const json& init) {
  return init.is_null() || init.is_boolean() || init == "gaussian" || init == "eva" ||
         init == "orthogonal";
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
  if (!pj::keeps_base(value("init_lora_weights"))) {
    return refuse("init_lora_weights", ", which changes the base model's weights");
  }
  peft_info info;
  const auto r = value("r");
  if (!r.is_number_unsigned() || r.get<std::size_t>() == 0) {
    return error{errc::bad_value, path + ": r is " + r.dump() + ", needs a rank of at least 1"};
  }
  const auto alpha = value("lora_alpha");
  if (!alpha.is_number()) {
    return error{errc::bad_value, path + ": lora_alpha is " + alpha.dump() + ", needs a number"};
  }
  info.scaling.rank = r.get<std::size_t>();
  info.scaling.alpha = alpha.get<double>();
  info.scaling.rslora = !pj::off(config, "use_rslora");
  CRAYON_CHECK(pj::read_pattern(config, "rank_pattern", path, info.scaling.rank_pattern));
  CRAYON_CHECK(pj::read_pattern(config, "alpha_pattern", path, info.scaling.alpha_pattern));
  info.base_model = pj::text_or(config, "base_model_name_or_path", "");
  info.task_type = pj::text_or(config, "task_type", "");
  info.fan_in_fan_out = !pj::off(config, "fan_in_fan_out");
  for (const auto& module : value("target_modules")) {
    if (module.is_string() && value("target_modules").is_array()) {
      info.target_modules.push_back(module.get<std::string>());
    }
  }
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
  config["lora_dropout"] = 0.0;
  config["modules_to_save"] = nullptr;
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
