// SPDX-License-Identifier: MIT
// How an adapter becomes the tensors and the scaling rule of a PEFT directory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/peft_config.hpp>
#include <crayon/adapter/peft_keys.hpp>
#include <crayon/adapter/saved_tensor.hpp>
#include <crayon/adapter/scaling.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/tensor.hpp>

namespace crayon::adapter {

namespace peft_keys {

/// The rule that gives every site its rank and scale: `wanted` if it does, else r and alpha of most
/// sites and patterns for the others. alpha = scale * r is exact in double, and so is the way back.
/// A pattern is the module's whole name, which every version of PEFT looks up as it is (those
/// before 0.15 match no pattern that starts with "^"); where one name is the end of another,
/// anchored.
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
  for (const bool anchored : {false, true}) {
    scaling_rule rule{most(ranks), most(alphas), false, {}, {}};
    for (const auto& s : shapes) {
      const std::string pattern = anchored ? module_pattern::exactly(s.module) : s.module;
      if (s.rank != rule.rank) rule.rank_pattern.emplace_back(pattern, s.rank);
      if (alpha_of(s) != rule.alpha) rule.alpha_pattern.emplace_back(pattern, alpha_of(s));
    }
    if (fits(rule)) return rule;
  }
  return error{errc::bad_value, "no alpha gives these ranks and scales"};
}

[[nodiscard]] inline std::string layer_of_bias(std::string_view module) {
  constexpr std::string_view end = ".bias";
  return std::string(module.ends_with(end) ? module.substr(0, module.size() - end.size()) : "");
}

/// The sites that become modules, that is, all but biases; sets `info.lora_bias`. Errors: what has
/// no form in PEFT.
[[nodiscard]] inline result<std::vector<site_shape>> writable(const std::string& directory,
                                                              const std::vector<site_shape>& sites,
                                                              peft_info& info) {
  const auto bad = [&](const site_shape& s, const std::string& text) {
    return error{errc::bad_value, directory + ": module " + s.module + " " + text};
  };
  if (sites.empty()) return error{errc::bad_value, directory + ": an adapter without sites"};
  std::vector<site_shape> modules;
  const site_shape* bias = nullptr;
  for (const auto& s : sites) {
    if (s.rank == 0 || !io::finite(s.scale)) {
      return bad(s, "has rank " + std::to_string(s.rank) + " and scale " + std::to_string(s.scale));
    }
    (s.kind == site_kind::bias ? void(bias = &s) : modules.push_back(s));
  }
  info.lora_bias = bias != nullptr;
  for (const auto& s : sites) {
    if (s.kind == site_kind::embedding && bias != nullptr) {
      return bad(s, "is an embedding, beside the bias " + bias->module +
                        ": PEFT takes no lora_bias with embeddings");
    }
    if (s.kind != site_kind::bias) continue;
    const auto layer = std::find_if(modules.begin(), modules.end(), [&](const site_shape& m) {
      return m.module == layer_of_bias(s.module) && m.kind == site_kind::linear;
    });
    if (layer == modules.end()) return bad(s, "is a bias without factors of its layer");
    if (layer->out != s.out || s.in != 1) {
      return bad(s, "has shape " + io::shape_text(std::vector{s.out, s.in}) + ", its layer has " +
                        std::to_string(layer->out) + " outputs");
    }
    if (layer->scale == 0) return bad(s, "is a bias of a layer of scale 0, which PEFT ignores");
  }
  return modules;
}

/// The vector v with layer_scale * v = scale * b * a: of rank 1 with a = [1] and the layer's scale,
/// b itself.
template <element E>
[[nodiscard]] aligned_vector<float> folded(const factors_view<E>& f, float layer_scale) {
  const double ratio = double{f.scale} / double{layer_scale};
  aligned_vector<float> v(f.b.rows);
  for (std::size_t o = 0; o < f.b.rows; ++o) {
    double sum = 0;
    for (std::size_t r = 0; r < f.rank(); ++r) {
      sum += double{to_float(f.b(o, r))} * double{to_float(f.a(r, 0))};
    }
    v[o] = static_cast<float>(ratio * sum);
  }
  return v;
}

/// Tensors to be written as one type. Refers to factors of that type, owns converted ones.
class tensor_list {
 public:
  tensor_list(std::string directory, dtype stored)
      : directory_(std::move(directory)), stored_(stored) {}

  template <element E>
  [[nodiscard]] result<void> add(const site_shape& s, const factors_view<E>& f) {
    const std::string key = std::string(prefix) + s.module;
    const bool embedding = s.kind == site_kind::embedding;
    CRAYON_CHECK(add(key + (embedding ? ".lora_embedding_A" : ".lora_A.weight"), s.module, f.a));
    return add(key + (embedding ? ".lora_embedding_B" : ".lora_B.weight"), s.module, f.b);
  }

  /// `module` ends with ".bias".
  [[nodiscard]] result<void> add_bias(const std::string& module, aligned_vector<float> values) {
    const matrix_view<const float> row(values.data(), 1, values.size());
    const std::string key = std::string(prefix) + layer_of_bias(module) + ".lora_B.bias";
    floats_.push_back(std::move(values));
    CRAYON_CHECK(add(key, module, row));
    tensors_.back().shape = {row.cols};
    return {};
  }

  void add(const saved_tensor& t) { tensors_.push_back(t.view(std::string(prefix) + t.name)); }

  [[nodiscard]] std::vector<io::tensor> take() { return std::move(tensors_); }

 private:
  template <element E>
  [[nodiscard]] result<void> add(std::string key, const std::string& module,
                                 matrix_view<const E> m) {
    for (std::size_t i = 0; i < m.size(); ++i) {
      if (!io::finite(to_float(m.data[i]))) {
        return error{errc::bad_value, directory_ + ": module " + module + " has NaN or infinity"};
      }
    }
    tensors_.push_back(io::tensor_of(std::move(key), m));
    if (stored_ == dtype_of<E>) return {};
    switch (stored_) {
      case dtype::f32:
        return convert<float>(module, m);
      case dtype::bf16:
        return convert<bf16>(module, m);
      case dtype::f16:
        return convert<f16>(module, m);
    }
    return {};
  }

  /// Replaces the last tensor's bytes.
  template <element S, element E>
  [[nodiscard]] result<void> convert(const std::string& module, matrix_view<const E> m) {
    std::vector<std::byte>& bytes = bytes_.emplace_back(m.size() * sizeof(S));
    for (std::size_t i = 0; i < m.size(); ++i) {
      const S value = from_float<S>(to_float(m.data[i]));
      if (!io::finite(to_float(value))) {
        return error{errc::bad_value, directory_ + ": module " + module + " has " +
                                          std::to_string(to_float(m.data[i])) + ", too large for " +
                                          std::string(crayon::name(dtype_of<S>))};
      }
      std::memcpy(bytes.data() + i * sizeof(S), &value, sizeof(S));
    }
    tensors_.back().dtype = crayon::name(dtype_of<S>);
    tensors_.back().bytes = bytes;
    return {};
  }

  std::string directory_;
  dtype stored_;
  std::vector<io::tensor> tensors_;
  std::deque<aligned_vector<float>> floats_;
  std::deque<std::vector<std::byte>> bytes_;
};

}  // namespace peft_keys

}  // namespace crayon::adapter
