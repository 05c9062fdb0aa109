// SPDX-License-Identifier: MIT
// PEFT adapter directories: adapter_config.json and adapter_model.safetensors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/scaling.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/directory.hpp>
#include <crayon/io/file.hpp>
#include <crayon/adapter/peft_config.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/io/safetensors_write.hpp>

namespace crayon::adapter {

template <element E>
struct peft_adapter {
  lora_adapter<E> adapter;  ///< sites in the natural order of their names
  peft_info info;
};

inline constexpr std::string_view peft_config_name = "adapter_config.json";
inline constexpr std::string_view peft_weights_name = "adapter_model.safetensors";

namespace peft_keys {

inline constexpr std::string_view prefix = "base_model.model.";

/// Runs of digits compare as numbers: layers.2 before layers.10.
struct natural_less {
  bool operator()(std::string_view a, std::string_view b) const noexcept {
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    while (!a.empty() && !b.empty()) {
      if (digit(a[0]) && digit(b[0])) {
        const auto run = [&](std::string_view s) {
          const auto n =
              static_cast<std::size_t>(std::find_if_not(s.begin(), s.end(), digit) - s.begin());
          return s.substr(0, n);
        };
        const auto x = run(a), y = run(b);
        if (x != y) return x.size() != y.size() ? x.size() < y.size() : x < y;
        a.remove_prefix(x.size());
        b.remove_prefix(y.size());
      } else {
        if (a[0] != b[0]) return a[0] < b[0];
        a.remove_prefix(1);
        b.remove_prefix(1);
      }
    }
    return a.size() < b.size();
  }
};

struct pair {
  const io::tensor* a = nullptr;
  const io::tensor* b = nullptr;
};

/// "base_model.model.<module>.lora_A.weight", also with the adapter's name before ".weight" and
/// without the prefix -> module and letter. Nothing for any other key.
struct parsed {
  std::string module;
  char factor = 0;  ///< 'A', 'B', or 0
};
[[nodiscard]] inline parsed parse(std::string_view key) {
  constexpr std::string_view mark = ".lora_", weight = "weight";
  if (key.starts_with(prefix)) key.remove_prefix(prefix.size());
  const auto at = key.rfind(mark);
  if (at == std::string_view::npos || at == 0) return {};
  std::string_view rest = key.substr(at + mark.size());  // "A.weight" or "A.default.weight"
  if (rest.size() < 2 || (rest[0] != 'A' && rest[0] != 'B') || rest[1] != '.') return {};
  const char factor = rest[0];
  rest.remove_prefix(2);
  if (const auto dot = rest.find('.'); dot != std::string_view::npos) rest.remove_prefix(dot + 1);
  if (rest != weight) return {};
  return {std::string(key.substr(0, at)), factor};
}

using pairs = std::map<std::string, pair, natural_less>;

/// The file's tensors as pairs; a tensor that is no factor is an error.
[[nodiscard]] inline result<pairs> collect(const io::safetensors& file) {
  pairs found;
  for (const auto& t : file.tensors()) {
    const auto key = parse(t.name);
    if (key.factor == 0) {
      return error{errc::unsupported, file.path() + ": tensor " + t.name +
                                          " is not a lora_A or lora_B weight of a linear layer"};
    }
    auto& at = found[key.module];
    const io::tensor*& slot = key.factor == 'A' ? at.a : at.b;
    if (slot != nullptr) {
      return error{errc::bad_format,
                   file.path() + ": tensors " + slot->name + " and " + t.name + " are one factor"};
    }
    slot = &t;
  }
  if (found.empty()) return error{errc::bad_format, file.path() + ": holds no LoRA factors"};
  return found;
}

/// The shape of a site, checked against the configuration.
[[nodiscard]] inline result<site_shape> shape_of(const std::string& path, const std::string& module,
                                                 const pair& p, const peft_info& info) {
  if (p.a == nullptr || p.b == nullptr) {
    return error{errc::bad_format, path + ": module " + module + " has lora_" +
                                       (p.a == nullptr ? "B but no lora_A" : "A but no lora_B")};
  }
  if (p.a->shape.size() != 2 || p.b->shape.size() != 2 || p.a->shape[0] != p.b->shape[1]) {
    return error{errc::bad_shape, path + ": module " + module + " has lora_A " +
                                      io::shape_text(p.a->shape) + " and lora_B " +
                                      io::shape_text(p.b->shape) + ", needs (r, in) and (out, r)"};
  }
  auto scaling = info.scaling.at(module);
  if (!scaling) return error{scaling.error().code, path + ": " + scaling.error().text};
  if (scaling->rank != p.a->shape[0]) {
    return error{errc::bad_shape,
                 path + ": module " + module + " has rank " + std::to_string(p.a->shape[0]) +
                     ", adapter_config.json says " + std::to_string(scaling->rank)};
  }
  if (p.a->shape[1] == 0 || p.b->shape[0] == 0) {
    return error{errc::bad_shape, path + ": module " + module + " has an empty factor"};
  }
  return site_shape{module, p.b->shape[0], p.a->shape[1], scaling->rank, scaling->scale};
}

/// The rule that gives every site its rank and scale: `wanted` if it does, else r and alpha of most
/// sites and patterns for the others. alpha = scale * r is exact in double, and so is the way back.
[[nodiscard]] inline result<scaling_rule> rule_for(const std::vector<site_shape>& shapes,
                                                   const scaling_rule& wanted) {
  const auto fits = [&](const scaling_rule& rule) {
    return std::all_of(shapes.begin(), shapes.end(), [&](const auto& s) {
      const auto at = rule.at(s.module);
      return at && at->rank == s.rank && at->scale == s.scale;
    });
  };
  if (fits(wanted)) return wanted;
  const auto alpha_of = [](const site_shape& s) {
    return static_cast<double>(s.scale) * static_cast<double>(s.rank);
  };
  std::map<std::size_t, std::size_t> ranks;
  std::map<double, std::size_t> alphas;
  for (const auto& s : shapes) ++ranks[s.rank], ++alphas[alpha_of(s)];
  const auto most = [](const auto& counts) {
    return std::max_element(counts.begin(), counts.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  };
  scaling_rule rule{most(ranks), most(alphas), false, {}, {}};
  for (const auto& s : shapes) {
    std::string pattern = "^";
    for (const char c : s.module) pattern.append(c == '.' ? "\\." : std::string(1, c));
    if (s.rank != rule.rank) rule.rank_pattern.emplace_back(pattern, s.rank);
    if (alpha_of(s) != rule.alpha) rule.alpha_pattern.emplace_back(pattern, alpha_of(s));
  }
  if (!fits(rule)) return error{errc::bad_value, "no alpha gives these ranks and scales"};
  return rule;
}

}  // namespace peft_keys

/// Loads a PEFT directory and converts its factors to E. Refuses, with an error that names the
/// directory, the key and the value, what is not plain LoRA on linear layers: DoRA, other
/// peft_types, modules_to_save, biases, embeddings, convolutions, initialisations that change the
/// base model.
template <element E>
[[nodiscard]] result<peft_adapter<E>> load_peft(const std::string& directory) {
  const std::string config_path = directory + "/" + std::string(peft_config_name);
  CRAYON_TRY(const std::string text, io::read_text(config_path));
  peft_adapter<E> loaded;
  CRAYON_TRY(loaded.info, parse_peft_config(config_path, text));
  CRAYON_TRY(const io::safetensors file,
             io::safetensors::open(directory + "/" + std::string(peft_weights_name)));
  const auto hash = file.metadata().find("crayon.base_hash");
  if (hash != file.metadata().end()) loaded.info.base_hash = hash->second;
  CRAYON_TRY(const peft_keys::pairs pairs, peft_keys::collect(file));
  std::vector<site_shape> shapes;
  for (const auto& [module, pair] : pairs) {
    CRAYON_TRY(auto shape, peft_keys::shape_of(file.path(), module, pair, loaded.info));
    shapes.push_back(std::move(shape));
  }
  loaded.adapter = lora_adapter<E>(std::move(shapes));
  std::size_t i = 0;
  for (const auto& [module, pair] : pairs) {
    CRAYON_CHECK(io::read_matrix(file.path(), *pair.a, loaded.adapter.a(i)));
    CRAYON_CHECK(io::read_matrix(file.path(), *pair.b, loaded.adapter.b(i)));
    ++i;
  }
  return loaded;
}

/// Saves an adapter as a PEFT directory that appears as a whole. Ranks and scales come from the
/// adapter; from `info` come names, and the scaling rule if it gives those ranks and scales.
template <element E>
[[nodiscard]] result<void> save_peft(const std::string& directory, const lora_adapter<E>& adapter,
                                     peft_info info) {
  if (adapter.size() == 0) return error{errc::bad_value, directory + ": an adapter without sites"};
  std::vector<io::tensor> tensors;
  info.target_modules.clear();
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    const auto& [module, rows, cols, rank, scale, kind] = adapter.shape(i);
    if (rank == 0 || !io::finite(scale)) {
      return error{errc::bad_value, directory + ": module " + module + " has rank " +
                                        std::to_string(rank) + " and scale " +
                                        std::to_string(scale)};
    }
    const auto factors = adapter.factors(i);
    const std::string key = std::string(peft_keys::prefix) + module;
    tensors.push_back(io::tensor_of(key + ".lora_A.weight", factors.a));
    tensors.push_back(io::tensor_of(key + ".lora_B.weight", factors.b));
    for (const auto& m : {factors.a, factors.b}) {
      if (!std::all_of(m.data, m.data + m.size(), [](E e) { return io::finite(to_float(e)); })) {
        return error{errc::bad_value, directory + ": module " + module + " has NaN or infinity"};
      }
    }
    info.target_modules.push_back(module);
  }
  auto rule = peft_keys::rule_for(adapter.shapes(), info.scaling);
  if (!rule) return error{rule.error().code, directory + ": " + rule.error().text};
  info.scaling = *std::move(rule);
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (!info.base_hash.empty()) metadata["crayon.base_hash"] = info.base_hash;

  CRAYON_TRY(io::directory_writer out, io::directory_writer::create(directory));
  CRAYON_CHECK(io::write_safetensors(out.stage(peft_weights_name), std::move(tensors), metadata));
  CRAYON_CHECK(io::write_text(out.stage(peft_config_name), peft_config_text(info)));
  return out.commit();
}

}  // namespace crayon::adapter
