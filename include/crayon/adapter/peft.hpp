// SPDX-License-Identifier: MIT
// PEFT adapter directories: adapter_config.json and adapter_model.safetensors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/peft_config.hpp>
#include <crayon/adapter/peft_keys.hpp>
#include <crayon/adapter/peft_write.hpp>
#include <crayon/adapter/scaling.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/directory.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/io/safetensors_write.hpp>

namespace crayon::adapter {

template <element E>
struct peft_adapter {
  lora_adapter<E> adapter;  ///< sites in the natural order of their names, a bias after its layer
  peft_info info;
};

inline constexpr std::string_view peft_config_name = "adapter_config.json";
inline constexpr std::string_view peft_weights_name = "adapter_model.safetensors";

namespace peft_keys {

/// The shape of a module's factors, checked against the configuration.
[[nodiscard]] inline result<site_shape> shape_of(const std::string& path, const std::string& module,
                                                 const factors& f, const peft_info& info) {
  const auto bad = [&](errc code, const std::string& text) {
    return error{code, path + ": module " + module + " has " + text};
  };
  const std::string name = f.embedding ? "lora_embedding_" : "lora_";
  if (f.a == nullptr || f.b == nullptr) {
    const char* has = f.b != nullptr ? "B" : f.a != nullptr ? "A" : "B.bias";
    return bad(errc::bad_format, name + has + " but no " + name + (f.a == nullptr ? "A" : "B"));
  }
  if (f.a->shape.size() != 2 || f.b->shape.size() != 2 || f.a->shape[0] != f.b->shape[1]) {
    return bad(errc::bad_shape, name + "A " + io::shape_text(f.a->shape) + " and " + name + "B " +
                                    io::shape_text(f.b->shape) + ", needs (r, in) and (out, r)");
  }
  if (f.bias != nullptr && f.bias->shape != std::vector{f.b->shape[0]}) {
    return bad(errc::bad_shape, "lora_B.bias " + io::shape_text(f.bias->shape) + ", needs " +
                                    io::shape_text(std::vector{f.b->shape[0]}));
  }
  if (f.bias != nullptr && !info.lora_bias) {
    return bad(errc::mismatch, "lora_B.bias, adapter_config.json says lora_bias is false");
  }
  if (f.embedding && info.ensure_weight_tying) {
    return bad(errc::unsupported,
               "embedding factors, and ensure_weight_tying is true: that the head is adapted with "
               "the embedding is not supported");
  }
  auto scaling = info.scaling.at(module);
  if (!scaling) {
    return error{scaling.error().code,
                 path + ": adapter_config.json beside it: " + scaling.error().text};
  }
  if (scaling->rank != f.a->shape[0]) {
    return bad(errc::bad_shape, "rank " + std::to_string(f.a->shape[0]) +
                                    ", adapter_config.json says " + std::to_string(scaling->rank));
  }
  if (f.a->shape[1] == 0 || f.b->shape[0] == 0) return bad(errc::bad_shape, "an empty factor");
  if (!io::finite(scaling->scale)) return bad(errc::bad_value, "a scale that is not finite");
  return site_shape{module,         f.b->shape[0],
                    f.a->shape[1],  scaling->rank,
                    scaling->scale, f.embedding ? site_kind::embedding : site_kind::linear};
}

/// The type that all factors are stored as, or f32.
[[nodiscard]] inline dtype stored_type(const contents& found) {
  const std::string& first = found.modules.begin()->second.a->dtype;
  for (const auto& [module, f] : found.modules) {
    for (const auto* t : {f.a, f.b, f.bias}) {
      if (t != nullptr && t->dtype != first) return dtype::f32;
    }
  }
  for (const dtype type : {dtype::bf16, dtype::f16}) {
    if (first == crayon::name(type)) return type;
  }
  return dtype::f32;
}

/// PEFT before 0.6 wrote pickles, which only Python can read.
[[nodiscard]] inline result<io::safetensors> open_weights(const std::string& directory) {
  auto file = io::safetensors::open(directory + "/" + std::string(peft_weights_name));
  if (!file && file.error().code == errc::not_found) {
    const std::string pickle = directory + "/adapter_model.bin";
    if (io::mapped_file::open(pickle)) {
      return error{errc::unsupported,
                   pickle +
                       ": a pickle, which is not read; load it with PEFT and save it again "
                       "with save_pretrained, which writes " +
                       std::string(peft_weights_name)};
    }
  }
  return file;
}

/// The tensors of an adapter; makes `info` say what they are. `directory` stands in errors.
template <element E>
[[nodiscard]] result<void> fill(const std::string& directory, const lora_adapter<E>& adapter,
                                peft_info& info, tensor_list& list) {
  CRAYON_TRY(const std::vector<site_shape> modules,
             writable(directory, adapter.shapes(), info));
  info.target_modules.clear();
  for (const auto& s : modules) info.target_modules.push_back(s.module);
  auto rule = rule_for(modules, info.scaling);
  if (!rule) return error{rule.error().code, directory + ": " + rule.error().text};
  info.scaling = *std::move(rule);

  for (std::size_t i = 0; i < adapter.size(); ++i) {
    const site_shape& s = adapter.shape(i);
    const auto f = adapter.factors(i);
    if (s.kind == site_kind::bias) {
      const auto layer = *adapter.find(layer_of_bias(s.module));
      CRAYON_CHECK(list.add_bias(s.module, folded(f, adapter.shape(layer).scale)));
      continue;
    }
    CRAYON_CHECK(list.add(s, f));
    if (!info.lora_bias || s.kind == site_kind::embedding) continue;
    if (!adapter.find(s.module + ".bias")) {  // PEFT has a bias at every layer or at none
      CRAYON_CHECK(list.add_bias(s.module + ".bias", aligned_vector<float>(s.out, 0.0F)));
    }
  }
  for (const auto& t : info.saved) list.add(t);
  return {};
}

[[nodiscard]] inline std::map<std::string, std::string> metadata_of(const peft_info& info) {
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (!info.base_hash.empty()) metadata["crayon.base_hash"] = info.base_hash;
  return metadata;
}

}  // namespace peft_keys

/// The factors in `file`, converted to E, as `info` says they are to be read.
template <element E>
[[nodiscard]] result<peft_adapter<E>> read_peft(peft_info info, const io::safetensors& file) {
  peft_adapter<E> loaded;
  loaded.info = std::move(info);
  const auto hash = file.metadata().find("crayon.base_hash");
  if (hash != file.metadata().end()) loaded.info.base_hash = hash->second;
  CRAYON_TRY(peft_keys::contents found, peft_keys::collect(file, loaded.info));
  if (loaded.info.ensure_weight_tying && !found.saved.empty()) {
    return error{errc::unsupported,
                 file.path() + ": has " + describe(found.saved[0]) +
                     ", and ensure_weight_tying is true, which is not supported"};
  }
  std::vector<site_shape> shapes;
  for (const auto& [module, f] : found.modules) {
    CRAYON_TRY(auto shape, peft_keys::shape_of(file.path(), module, f, loaded.info));
    shapes.push_back(std::move(shape));
    if (f.bias == nullptr) continue;
    const site_shape& layer = shapes.back();
    shapes.push_back({module + ".bias", layer.out, 1, 1, layer.scale, site_kind::bias});
  }
  loaded.info.stored = peft_keys::stored_type(found);
  loaded.adapter = lora_adapter<E>(std::move(shapes));
  std::size_t i = 0;
  for (const auto& [module, f] : found.modules) {
    CRAYON_CHECK(io::read_matrix(file.path(), *f.a, loaded.adapter.a(i)));
    CRAYON_CHECK(io::read_matrix(file.path(), *f.b, loaded.adapter.b(i)));
    ++i;
    if (f.bias == nullptr) continue;
    const matrix_view<E> bias = loaded.adapter.b(i);  // (out, 1) in memory is a row of out
    CRAYON_CHECK(io::read_matrix(file.path(), *f.bias, matrix_view<E>(bias.data, 1, bias.rows)));
    loaded.adapter.a(i)(0, 0) = from_float<E>(1);
    ++i;
  }
  loaded.info.saved = std::move(found.saved);
  return loaded;
}

/// Loads a PEFT directory and converts its factors to E: LoRA on linear layers (Conv1D too),
/// lora_bias and embeddings, with any rule for rank and scale. Modules that PEFT saved whole come
/// along in `info.saved`. Refuses, with an error that names the directory, the key and the value,
/// what is something else: DoRA, other peft_types, trained biases, convolutions, initialisations
/// that change the base model.
template <element E>
[[nodiscard]] result<peft_adapter<E>> load_peft(const std::string& directory) {
  const std::string config_path = directory + "/" + std::string(peft_config_name);
  CRAYON_TRY(const std::string text, io::read_text(config_path));
  CRAYON_TRY(peft_info info, parse_peft_config(config_path, text));
  CRAYON_TRY(const io::safetensors file, peft_keys::open_weights(directory));
  return read_peft<E>(std::move(info), file);
}

/// Saves an adapter as a PEFT directory that appears as a whole, its factors as `stored` (nothing:
/// as E). Ranks and scales come from the adapter; from `info` come names, the saved tensors, and
/// the scaling rule if it gives those ranks and scales. Every bias becomes one vector, as PEFT has
/// it. Errors: an adapter that PEFT could not load, a value that `stored` cannot hold.
template <element E>
[[nodiscard]] result<void> save_peft(const std::string& directory, const lora_adapter<E>& adapter,
                                     peft_info info, std::optional<dtype> stored = std::nullopt) {
  peft_keys::tensor_list list(directory, stored.value_or(dtype_of<E>));
  CRAYON_CHECK(peft_keys::fill(directory, adapter, info, list));
  CRAYON_TRY(io::directory_writer out, io::directory_writer::create(directory));
  CRAYON_CHECK(io::write_safetensors(out.stage(peft_weights_name), list.take(),
                                     peft_keys::metadata_of(info)));
  CRAYON_CHECK(io::write_text(out.stage(peft_config_name), peft_config_text(info)));
  return out.commit();
}

}  // namespace crayon::adapter
