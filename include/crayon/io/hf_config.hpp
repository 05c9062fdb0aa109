// SPDX-License-Identifier: MIT
// The config.json of a Llama model as transformers writes it.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/json.hpp>

namespace crayon::io {

/// The keys of transformers' LlamaConfig that decide what a forward pass computes.
struct hf_llama_config {
  std::size_t hidden_size = 0;
  std::size_t intermediate_size = 0;
  std::size_t num_hidden_layers = 0;
  std::size_t num_attention_heads = 0;
  std::size_t num_key_value_heads = 0;
  std::size_t head_dim = 0;
  std::size_t vocab_size = 0;
  std::size_t max_position_embeddings = 0;
  float rope_theta = 10000.0F;
  float rms_norm_eps = 1e-6F;
  bool tie_word_embeddings = false;
  // Rope scaling; factor 1: none, original context 0: linear, else as Llama 3.1.
  float rope_factor = 1;
  float rope_low_freq_factor = 1;
  float rope_high_freq_factor = 4;
  std::size_t rope_original_context = 0;  ///< original_max_position_embeddings
};

/// Reads one config.json; every refusal names its key and its value.
class hf_config_reader {
 public:
  [[nodiscard]] static result<hf_llama_config> read(const std::string& path) {
    CRAYON_TRY(const std::string text, read_text(path));
    auto json = parse_json(text);
    if (!json.is_object()) return error{errc::bad_format, path + ": not a JSON object"};
    return hf_config_reader(path, std::move(json)).llama();
  }

 private:
  hf_config_reader(const std::string& path, nlohmann::json json)
      : path_(path), json_(std::move(json)) {}

  [[nodiscard]] result<hf_llama_config> llama() const {
    CRAYON_CHECK(only("model_type", "llama"));
    if (const auto act = json_.find("hidden_act"); act == json_.end() || *act != "swish") {
      CRAYON_CHECK(only("hidden_act", "silu"));  // swish is its other name
    }
    CRAYON_CHECK(only("attention_bias", false));
    CRAYON_CHECK(only("mlp_bias", false));
    CRAYON_CHECK(only("quantization_config", nullptr));
    CRAYON_CHECK(only("sliding_window", nullptr));
    if (!json_.contains("model_type")) return refuse(errc::bad_format, "model_type", "is missing");
    hf_llama_config c;
    CRAYON_CHECK(count("hidden_size", 1U << 20, c.hidden_size));
    CRAYON_CHECK(count("intermediate_size", 1U << 24, c.intermediate_size));
    CRAYON_CHECK(count("num_hidden_layers", 1U << 16, c.num_hidden_layers));
    CRAYON_CHECK(count("num_attention_heads", 1U << 16, c.num_attention_heads));
    CRAYON_CHECK(count("vocab_size", 1U << 24, c.vocab_size));
    c.max_position_embeddings = 2048;  // this and the next ones: the defaults of transformers
    CRAYON_CHECK(count("max_position_embeddings", 1U << 30, c.max_position_embeddings, true));
    c.num_key_value_heads = c.num_attention_heads;
    CRAYON_CHECK(count("num_key_value_heads", 1U << 16, c.num_key_value_heads, true));
    c.head_dim = c.hidden_size / c.num_attention_heads;
    CRAYON_CHECK(count("head_dim", 1U << 16, c.head_dim, true));
    if (c.head_dim == 0 || c.head_dim % 2 != 0) {
      return refuse(errc::bad_value, "head_dim",
                    "= " + std::to_string(c.head_dim) + " is not even");
    }
    if (c.num_attention_heads % c.num_key_value_heads != 0) {
      return refuse(
          errc::bad_value, "num_key_value_heads",
          "= " + std::to_string(c.num_key_value_heads) +
              " does not divide num_attention_heads = " + std::to_string(c.num_attention_heads));
    }
    CRAYON_CHECK(positive(json_, "rms_norm_eps", c.rms_norm_eps));
    CRAYON_CHECK(positive(json_, "rope_theta", c.rope_theta));
    CRAYON_CHECK(rope("rope_scaling", c));
    CRAYON_CHECK(rope("rope_parameters", c));  // of transformers 5
    if (json_.contains("tie_word_embeddings")) {
      const auto& tied = json_["tie_word_embeddings"];
      if (!tied.is_boolean()) return refuse(errc::bad_format, "tie_word_embeddings", is(tied));
      c.tie_word_embeddings = tied.get<bool>();
    }
    return c;
  }

  [[nodiscard]] error refuse(errc code, std::string_view key, const std::string& what) const {
    return {code, path_ + ": " + std::string(key) + " " + what};
  }
  [[nodiscard]] static std::string is(const nlohmann::json& value) {
    return "= " + value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
           " is not a value it can have";
  }

  /// The key is absent, null, or that value.
  [[nodiscard]] result<void> only(std::string_view key, const nlohmann::json& value) const {
    const auto at = json_.find(key);
    if (at == json_.end() || at->is_null() || *at == value) return {};
    return refuse(errc::unsupported, key,
                  "= " + at->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
                      " is not supported, only " + value.dump());
  }

  [[nodiscard]] result<void> count(std::string_view key, std::size_t largest, std::size_t& out,
                                   bool optional = false) const {
    const auto at = json_.find(key);
    if (at == json_.end() || at->is_null()) {
      if (optional) return {};
      return refuse(errc::bad_format, key, "is missing");
    }
    if (!at->is_number_unsigned() || at->get<std::size_t>() == 0 ||
        at->get<std::size_t>() > largest) {
      return refuse(errc::bad_value, key, is(*at));
    }
    out = at->get<std::size_t>();
    return {};
  }

  [[nodiscard]] result<void> positive(const nlohmann::json& object, std::string_view key,
                                      float& out) const {
    const auto at = object.find(key);
    if (at == object.end() || at->is_null()) return {};
    const double value = at->is_number() ? at->get<double>() : 0;
    if (!(value > 0) || !std::isfinite(value)) return refuse(errc::bad_value, key, is(*at));
    out = static_cast<float>(value);
    return {};
  }

  /// null, or an object whose rope_type is "default", "linear" or "llama3".
  [[nodiscard]] result<void> rope(std::string_view key, hf_llama_config& c) const {
    const auto at = json_.find(key);
    if (at == json_.end() || at->is_null()) return {};
    if (!at->is_object()) return refuse(errc::bad_format, key, is(*at));
    const auto name = [&](const char* entry) { return std::string(key) + "." + entry; };
    std::string kind = "default";
    for (const char* type : {"rope_type", "type"}) {
      if (!at->contains(type)) continue;
      const auto& value = (*at)[type];
      if (value != "default" && value != "linear" && value != "llama3") {
        return refuse(errc::unsupported, name(type),
                      "= " + value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
                          R"( is not supported, only "default", "linear" and "llama3")");
      }
      kind = value.get<std::string>();
      break;  // "type" is the old name, written beside the new one
    }
    if (at->contains("partial_rotary_factor") && (*at)["partial_rotary_factor"] != 1.0) {
      return refuse(errc::unsupported, std::string(key) + ".partial_rotary_factor",
                    "= " + (*at)["partial_rotary_factor"].dump() + " is not supported, only 1");
    }
    CRAYON_CHECK(positive(*at, "rope_theta", c.rope_theta));
    if (kind == "default") return {};
    if (!at->contains("factor")) return refuse(errc::bad_format, name("factor"), "is missing");
    CRAYON_CHECK(positive(*at, "factor", c.rope_factor));
    if (kind == "linear") return {};
    for (const char* entry :
         {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
      if (!at->contains(entry)) return refuse(errc::bad_format, name(entry), "is missing");
    }
    float original = 0;
    CRAYON_CHECK(positive(*at, "low_freq_factor", c.rope_low_freq_factor));
    CRAYON_CHECK(positive(*at, "high_freq_factor", c.rope_high_freq_factor));
    CRAYON_CHECK(positive(*at, "original_max_position_embeddings", original));
    if (!(c.rope_low_freq_factor < c.rope_high_freq_factor) || !(original < 1e9F)) {
      return refuse(errc::bad_value, key, is(*at));
    }
    c.rope_original_context = static_cast<std::size_t>(original);
    return {};
  }

  std::string path_;
  nlohmann::json json_;
};

/// The text of a config.json that transformers 4 and 5 read; `dtype` is "float32", "bfloat16" or
/// "float16".
[[nodiscard]] inline std::string hf_config_text(const hf_llama_config& c, std::string_view dtype) {
  nlohmann::json json{{"architectures", {"LlamaForCausalLM"}},
                      {"model_type", "llama"},
                      {"hidden_size", c.hidden_size},
                      {"intermediate_size", c.intermediate_size},
                      {"num_hidden_layers", c.num_hidden_layers},
                      {"num_attention_heads", c.num_attention_heads},
                      {"num_key_value_heads", c.num_key_value_heads},
                      {"head_dim", c.head_dim},
                      {"vocab_size", c.vocab_size},
                      {"max_position_embeddings", c.max_position_embeddings},
                      {"rope_theta", c.rope_theta},
                      {"rms_norm_eps", c.rms_norm_eps},
                      {"tie_word_embeddings", c.tie_word_embeddings},
                      {"hidden_act", "silu"},
                      {"attention_bias", false},
                      {"mlp_bias", false},
                      {"bos_token_id", 1},
                      {"eos_token_id", 2},
                      {"torch_dtype", dtype}};
  if (c.rope_factor != 1) {
    const bool linear = c.rope_original_context == 0;
    auto& scaling = json["rope_scaling"];
    scaling["rope_type"] = linear ? "linear" : "llama3";
    scaling["factor"] = c.rope_factor;
    if (!linear) {
      scaling["low_freq_factor"] = c.rope_low_freq_factor;
      scaling["high_freq_factor"] = c.rope_high_freq_factor;
      scaling["original_max_position_embeddings"] = c.rope_original_context;
    }
  }
  return json.dump(2) + "\n";
}

}  // namespace crayon::io
