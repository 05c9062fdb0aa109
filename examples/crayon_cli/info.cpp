// SPDX-License-Identifier: MIT
#include <sys/stat.h>

#include <cstdio>
#include <map>

#include <crayon/adapter/pool_contents.hpp>
#include <crayon/engine/router_binding.hpp>
#include <crayon/io/safetensors.hpp>

#include "commands.hpp"
#include "models.hpp"

namespace crayon::cli {
namespace {

bool exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

bool ends_with(const std::string& text, std::string_view end) {
  return std::string_view(text).ends_with(end);
}

void line(const char* name, const std::string& value) {
  std::printf("%-14s %s\n", name, value.c_str());
}

result<void> model_info(const std::string& path, json& report) {
  CRAYON_TRY(const stored_model model, load_model(path));
  const auto& c = model.config();
  report["kind"] = "model";
  report["architecture"] = "llama";
  report["type"] = name(model.type());
  report["parameters"] = c.parameters();
  report["dim"] = c.dim;
  report["hidden"] = c.hidden;
  report["layers"] = c.layers;
  report["heads"] = c.heads;
  report["kv_heads"] = c.kv_heads;
  report["head_dim"] = c.head_dim;
  report["vocab"] = c.vocab;
  report["context"] = c.context;
  report["rope_theta"] = c.rope_theta;
  if (c.scaling.factor != 1) report["rope_factor"] = c.scaling.factor;
  report["norm_epsilon"] = c.norm_epsilon;
  report["tied"] = c.tied;
  report["hash"] = model.hash();
  return {};
}

/// "3 x rank 8, 1 x rank 16"; a bias has none of its own.
std::string ranks_text(const std::vector<adapter::site_shape>& shapes) {
  std::map<std::size_t, std::size_t> counts;
  for (const auto& s : shapes) {
    if (s.kind != adapter::site_kind::bias) ++counts[s.rank];
  }
  std::string text;
  for (const auto& [rank, count] : counts) {
    if (!text.empty()) text += ", ";
    text += std::to_string(count) + " x rank " + std::to_string(rank);
  }
  return text;
}

/// Pairs, in their order: the first pattern that matches counts.
template <class T>
json pattern_json(const std::vector<std::pair<std::string, T>>& patterns) {
  json pairs = json::array();
  for (const auto& [pattern, value] : patterns) pairs.push_back({pattern, value});
  return pairs;
}

result<void> adapter_info(const std::string& path, json& report) {
  CRAYON_TRY(const auto loaded, adapter::load_peft<float>(path));
  report["kind"] = "adapter";
  report["peft_type"] = "LORA";  // no other loads
  report["base_model"] = loaded.info.base_model;
  report["base_hash"] = loaded.info.base_hash;
  report["sites"] = loaded.adapter.size();
  report["ranks"] = ranks_text(loaded.adapter.shapes());
  const auto& info = loaded.info;
  report["alpha"] = info.scaling.alpha;
  report["rslora"] = info.scaling.rslora;
  report["rank_pattern"] = pattern_json(info.scaling.rank_pattern);
  report["alpha_pattern"] = pattern_json(info.scaling.alpha_pattern);
  report["fan_in_fan_out"] = info.fan_in_fan_out;
  report["lora_bias"] = info.lora_bias;
  report["embeddings"] = json::array();
  for (const auto& s : loaded.adapter.shapes()) {
    if (s.kind == adapter::site_kind::embedding) report["embeddings"].push_back(s.module);
  }
  report["dtype"] = name(info.stored);
  report["target_modules"] = info.target_modules;
  report["saved_modules"] = json::array();
  for (const auto& t : info.saved) report["saved_modules"].push_back(describe(t));
  report["parameters"] = loaded.adapter.bytes() / sizeof(float);
  report["hash"] = engine::adapter_hash(loaded.adapter);
  return {};
}

result<void> pool_info(const std::string& path, json& report) {
  CRAYON_TRY(const auto pool, adapter::pool_contents::open(path));
  CRAYON_CHECK(pool.check());  // every byte of the file, without a copy
  const auto& info = pool.info();
  std::size_t bytes = 0;
  for (std::size_t f = 0; f < 2 * pool.shapes().size(); ++f) bytes += pool.factor(f).size();
  report["kind"] = "pool";
  report["type"] = name(pool.type());
  report["adapters"] = pool.size();
  report["spare"] = pool.slots() - pool.size();
  report["names"] = info.names;
  report["sites"] = pool.shapes().size();
  report["ranks"] = ranks_text(pool.shapes());
  report["r_factors"] = !pool.cores().empty();
  report["index_dim"] = pool.index().cols;
  report["base_model"] = info.base_model;
  report["base_hash"] = info.base_hash;
  report["embedding"] = info.embedding;
  report["matcher"] = info.matcher;
  report["tau"] = info.tau;
  report["blend"] = info.blend;
  report["bytes"] = bytes;
  return {};
}

result<void> safetensors_info(const io::safetensors& file, json& report) {
  report["kind"] = "tensors";
  json tensors = json::object();
  for (const auto& t : file.tensors()) tensors[t.name] = t.dtype + " " + io::shape_text(t.shape);
  report["tensors"] = std::move(tensors);
  report["metadata"] = file.metadata();
  return {};
}

result<void> describe(const std::string& path, json& report) {
  if (exists(path + "/adapter_config.json")) return adapter_info(path, report);
  if (exists(path + "/config.json")) return model_info(path, report);
  const auto file = io::safetensors::open(path);
  if (file && adapter::pool_dtype(*file)) return pool_info(path, report);
  if (file) return safetensors_info(*file, report);
  if (ends_with(path, ".safetensors")) return file.error();
  if (exists(path + "/.")) {
    return error{errc::not_found, path + ": has neither config.json nor adapter_config.json"};
  }
  return model_info(path, report);
}

}  // namespace

result<void> run(const info_options& o, json& report) {
  report["path"] = o.path;
  CRAYON_CHECK(describe(o.path, report));
  for (const auto& [name, value] : report.items()) {
    if (value.is_object()) {
      for (const auto& [key, item] : value.items()) {
        line(key.c_str(), item.is_string() ? item.get<std::string>() : item.dump());
      }
    } else {
      line(name.c_str(), value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  return {};
}

}  // namespace crayon::cli
