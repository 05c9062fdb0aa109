// SPDX-License-Identifier: MIT
// Tensors of an adapter file that take the place of the base model's own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/core/element.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/tensor.hpp>

namespace crayon::adapter {

/// A whole weight that was trained and saved (PEFT's modules_to_save), or the base model's
/// embedding that PEFT saves beside embedding factors and after new tokens. Kept byte by byte: no
/// blend of factors changes it.
struct saved_tensor {
  std::string name;   ///< "classifier.dense.weight", "model.embed_tokens.base_layer.weight"
  std::string dtype;  ///< as safetensors spells it
  std::vector<std::size_t> shape;
  std::vector<std::byte> bytes;

  friend bool operator==(const saved_tensor&, const saved_tensor&) = default;

  [[nodiscard]] io::tensor view(std::string key) const {
    return {std::move(key), dtype, shape, std::span(bytes)};
  }
};

/// "classifier.dense.weight F32 [768, 768]"
[[nodiscard]] inline std::string describe(const saved_tensor& t) {
  return t.name + " " + t.dtype + " " + io::shape_text(t.shape);
}

/// Copies a tensor out of its file. Values of F32, BF16 and F16 must be finite.
[[nodiscard]] inline result<saved_tensor> save_tensor(const std::string& path, std::string name,
                                                      const io::tensor& t) {
  const auto all_finite = [&]<element S>(S stored) {
    for (std::size_t i = 0; i < t.bytes.size(); i += sizeof(S)) {
      std::memcpy(&stored, t.bytes.data() + i, sizeof(S));
      if (!io::finite(to_float(stored))) return false;
    }
    return true;
  };
  if ((t.dtype == crayon::name(dtype::f32) && !all_finite(float{})) ||
      (t.dtype == crayon::name(dtype::bf16) && !all_finite(bf16{})) ||
      (t.dtype == crayon::name(dtype::f16) && !all_finite(f16{}))) {
    return error{errc::bad_value, path + ": tensor " + t.name + " has NaN or infinity"};
  }
  return saved_tensor{std::move(name), t.dtype, t.shape, {t.bytes.begin(), t.bytes.end()}};
}

/// Whether this is the base model's own weight, which PEFT saves beside factors of an embedding.
[[nodiscard]] inline bool of_base(const saved_tensor& t) {
  return t.name.find(".base_layer.") != std::string::npos;
}

/// Nothing where both hold the same tensors with the same bytes in any order, else what differs. A
/// weight of the base model may be in one only.
[[nodiscard]] inline std::string difference(const std::vector<saved_tensor>& a,
                                            const std::vector<saved_tensor>& b) {
  const auto find = [](const std::vector<saved_tensor>& in, std::string_view name) {
    return std::find_if(in.begin(), in.end(), [&](const auto& t) { return t.name == name; });
  };
  for (const auto& t : a) {
    const auto other = find(b, t.name);
    if (other == b.end() && of_base(t)) continue;
    if (other == b.end()) return describe(t) + " is not in both";
    if (other->shape != t.shape || other->dtype != t.dtype) {
      return describe(t) + " is " + other->dtype + " " + io::shape_text(other->shape) +
             " in the other";
    }
    if (other->bytes != t.bytes) return describe(t) + " has other values in the other";
  }
  for (const auto& t : b) {
    if (find(a, t.name) == a.end() && !of_base(t)) return describe(t) + " is not in both";
  }
  return {};
}

}  // namespace crayon::adapter
