// SPDX-License-Identifier: MIT
// The names of the tensors in a PEFT adapter file, of all versions of PEFT.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/peft_config.hpp>
#include <crayon/adapter/saved_tensor.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/safetensors.hpp>

namespace crayon::adapter {

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

/// What a tensor is to its module.
enum class part : std::uint8_t { a, b, bias, embedding_a, embedding_b, magnitude, ignored, none };

struct parsed {
  std::string module;
  peft_keys::part part = part::none;
};

/// "base_model.model.<module>.lora_A.weight" -> module and part; also without the prefix, and with
/// the adapter's name ("default") where PEFT has it in memory: ".lora_A.default.weight".
[[nodiscard]] inline parsed parse(std::string_view key) {
  if (key.starts_with(prefix)) key.remove_prefix(prefix.size());
  const auto at = key.rfind(".lora_");
  if (at == std::string_view::npos || at == 0) return {};
  const std::string_view rest = key.substr(at + 1);  // "lora_A.default.weight"
  const auto dot = rest.find('.');
  const std::string_view what = rest.substr(0, dot);
  std::string_view tail = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
  const auto found = [&](part p) { return parsed{std::string(key.substr(0, at)), p}; };
  if (what == "lora_magnitude_vector") return found(part::magnitude);
  if (what == "lora_velora_embed") return found(part::ignored);  // of the backward pass
  if (what == "lora_embedding_A" || what == "lora_embedding_B") {
    if (tail.find('.') != std::string_view::npos) return {};  // at most the adapter's name
    return found(what.back() == 'A' ? part::embedding_a : part::embedding_b);
  }
  if (const auto name = tail.find('.'); name != std::string_view::npos)
    tail.remove_prefix(name + 1);
  if (tail == "weight" && what == "lora_A") return found(part::a);
  if (tail == "weight" && what == "lora_B") return found(part::b);
  if (tail == "bias" && what == "lora_B") return found(part::bias);
  return {};
}

/// The name in the base model of a tensor that PEFT saves whole, or "" for any other key: modules
/// that the configuration lists, embeddings and heads (saved when tokens were added), and the base
/// weight of an adapted embedding.
[[nodiscard]] inline std::string saved_name(std::string_view key,
                                            const std::vector<std::string>& modules_to_save) {
  if (key.starts_with(prefix)) key.remove_prefix(prefix.size());
  std::string name(key);
  constexpr std::string_view wrapper = ".modules_to_save.";  // and the adapter's name, in memory
  if (const auto at = name.find(wrapper); at != std::string::npos) {
    const auto end = name.find('.', at + wrapper.size());
    if (end != std::string::npos) name.erase(at, end - at);
  }
  const auto starts_a_module = [&](const std::string& module) {
    const auto at = ("." + name).find("." + module + ".");
    return !module.empty() && at != std::string::npos;
  };
  if (std::any_of(modules_to_save.begin(), modules_to_save.end(), starts_a_module)) return name;
  for (const std::string_view module :
       {"embed_tokens", "lm_head", "wte", "embed_in", "embed_out"}) {
    for (const std::string_view weight : {".weight", ".base_layer.weight"}) {
      const std::string end = std::string(module) + std::string(weight);
      if (name == end || name.ends_with("." + end)) return name;
    }
  }
  return {};
}

/// The tensors of one module.
struct factors {
  const io::tensor* a = nullptr;
  const io::tensor* b = nullptr;
  const io::tensor* bias = nullptr;
  bool embedding = false;
};

struct contents {
  std::map<std::string, factors, natural_less> modules;
  std::vector<saved_tensor> saved;  ///< in the order of their names
};

/// The file's tensors by module; one that is neither a factor nor saved whole is an error.
[[nodiscard]] inline result<contents> collect(const io::safetensors& file, const peft_info& info) {
  contents found;
  const auto bad = [&](errc code, const std::string& text) {
    return error{code, file.path() + ": " + text};
  };
  for (const auto& t : file.tensors()) {
    const auto key = parse(t.name);
    if (key.part == part::ignored) continue;
    if (key.part == part::magnitude) {
      return bad(errc::unsupported,
                 "tensor " + t.name + " belongs to DoRA, which is not supported");
    }
    if (key.part == part::none) {
      std::string name = saved_name(t.name, info.modules_to_save);
      if (name.empty()) {
        return bad(errc::unsupported, "tensor " + t.name + " is neither a factor of a linear or " +
                                          "embedding layer nor one of modules_to_save");
      }
      CRAYON_TRY(auto tensor, save_tensor(file.path(), std::move(name), t));
      found.saved.push_back(std::move(tensor));
      continue;
    }
    auto& at = found.modules[key.module];
    const bool embedding = key.part == part::embedding_a || key.part == part::embedding_b;
    const io::tensor*& slot = key.part == part::bias                                 ? at.bias
                              : key.part == part::a || key.part == part::embedding_a ? at.a
                                                                                     : at.b;
    if (embedding != at.embedding && (at.a != nullptr || at.b != nullptr || at.bias != nullptr)) {
      return bad(errc::bad_format, "module " + key.module + " is both a linear layer and an " +
                                       "embedding (tensor " + t.name + ")");
    }
    if (slot != nullptr) {
      return bad(errc::bad_format, "tensors " + slot->name + " and " + t.name + " are one factor");
    }
    at.embedding = embedding;
    slot = &t;
  }
  if (found.modules.empty()) return bad(errc::bad_format, "holds no LoRA factors");
  std::sort(found.saved.begin(), found.saved.end(),
            [](const auto& x, const auto& y) { return x.name < y.name; });
  const auto twice =
      std::adjacent_find(found.saved.begin(), found.saved.end(),
                         [](const auto& x, const auto& y) { return x.name == y.name; });
  if (twice != found.saved.end()) {
    return bad(errc::bad_format, "two tensors are " + twice->name);
  }
  return found;
}

}  // namespace peft_keys

}  // namespace crayon::adapter
