// SPDX-License-Identifier: MIT
// A Llama model in the element type that its file has, which is known when the program runs.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include <crayon/model/load_llama.hpp>

namespace crayon::model {

/// The type that holds every matrix of a model as it is stored: of a directory with nothing but
/// BF16 matrices bf16, with nothing but F16 ones f16, else f32, as are llama2.c's files. The norms,
/// which are kept as f32, do not count. Errors: a directory without readable safetensors files.
[[nodiscard]] inline result<dtype> stored_type(const std::string& path) {
  if (!is_model_directory(path)) return dtype::f32;
  CRAYON_TRY(const io::hf_shards files, io::hf_shards::open(path));
  const auto all_are = [&](std::string_view type) {
    bool some = false;
    for (const std::string_view name : files.names()) {
      const io::tensor& t = files.at(name);
      if (t.shape.size() != 2) continue;
      if (t.dtype != type) return false;
      some = true;
    }
    return some;
  };
  for (const dtype type : {dtype::bf16, dtype::f16}) {
    if (all_are(name(type))) return type;
  }
  return dtype::f32;
}

/// The weights of a model of any element type. Its values, and so its hash, do not depend on it.
class stored_llama {
 public:
  stored_llama() = default;
  template <element E>
  explicit stored_llama(llama_weights<E> weights) : weights_(std::move(weights)) {}

  /// As `stored_type` says; the errors are those of `load_llama`.
  [[nodiscard]] static result<stored_llama> load(const std::string& path) {
    const auto type = stored_type(path);
    if (type && *type == dtype::bf16) return load_as<bf16>(path);
    if (type && *type == dtype::f16) return load_as<f16>(path);
    return load_as<float>(path);  // which says what is wrong with the files
  }

  /// `use(const llama_weights<E>&)`; the results for all E are of one type.
  template <class Use>
  decltype(auto) visit(Use&& use) const {
    return std::visit(std::forward<Use>(use), weights_);
  }

  [[nodiscard]] dtype type() const {
    return visit([]<element E>(const llama_weights<E>&) { return dtype_of<E>; });
  }
  [[nodiscard]] const llama_config& config() const {
    return visit([](const auto& w) -> const llama_config& { return w.config(); });
  }
  [[nodiscard]] std::string hash() const {
    return visit([](const auto& w) { return w.hash(); });
  }
  /// Of all weights.
  [[nodiscard]] std::size_t bytes() const {
    return visit([](const auto& w) { return w.matrices().size_bytes() + w.norms().size_bytes(); });
  }

 private:
  template <element E>
  [[nodiscard]] static result<stored_llama> load_as(const std::string& path) {
    CRAYON_TRY(auto weights, load_llama<E>(path));
    return stored_llama(std::move(weights));
  }

  std::variant<llama_weights<float>, llama_weights<bf16>, llama_weights<f16>> weights_;
};

}  // namespace crayon::model
