// SPDX-License-Identifier: MIT
// Named tensors in files, and their conversion to the library's element types.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/core/element.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>

namespace crayon::io {

/// Bytes per element of a safetensors type; nothing if the type is not one of the format's.
[[nodiscard]] constexpr std::optional<std::size_t> size_of_dtype(std::string_view dtype) noexcept {
  struct entry {
    std::string_view name;
    std::size_t bytes;
  };
  constexpr entry table[]{{"F32", 4},     {"BF16", 2},   {"F16", 2},  {"F64", 8}, {"I64", 8},
                          {"I32", 4},     {"I16", 2},    {"I8", 1},   {"U64", 8}, {"U32", 4},
                          {"U16", 2},     {"U8", 1},     {"BOOL", 1}, {"C64", 8}, {"F8_E4M3", 1},
                          {"F8_E5M2", 1}, {"F8_E8M0", 1}};
  for (const auto& e : table) {
    if (e.name == dtype) return e.bytes;
  }
  return std::nullopt;
}

/// "[8, 768]"
[[nodiscard]] inline std::string shape_text(std::span<const std::size_t> shape) {
  std::string text = "[";
  for (const std::size_t n : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(n);
  }
  return text + "]";
}

/// One tensor of a file, or one to be written. Whoever made `bytes` owns them.
struct tensor {
  std::string name;
  std::string dtype;  ///< as the format spells it: "F32", "BF16", "I64"
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes;  ///< row-major; no alignment is promised
};

/// A contiguous matrix as a tensor of two dimensions.
template <element E>
[[nodiscard]] tensor tensor_of(std::string name, matrix_view<const E> m) {
  CRAYON_ASSERT(m.contiguous());
  return {std::move(name),
          std::string(crayon::name(dtype_of<E>)),
          {m.rows, m.cols},
          std::as_bytes(std::span<const E>(m.data, m.size()))};
}

/// Not NaN and not infinite, whatever the compiler assumes about floating point.
[[nodiscard]] constexpr bool finite(float value) noexcept {
  return (std::bit_cast<std::uint32_t>(value) & 0x7F800000U) != 0x7F800000U;
}

/// Converts stored elements S to E, row by row; the first one that is not finite, or that E cannot
/// hold, is an error.
template <element S, element E>
[[nodiscard]] result<void> convert_tensor(const std::string& path, const tensor& t,
                                          matrix_view<E> out) {
  const std::byte* source = t.bytes.data();
  const auto load = [&](std::size_t i) {
    S stored;
    std::memcpy(&stored, source + i * sizeof(S), sizeof(S));
    return to_float(stored);
  };
  for (std::size_t r = 0; r < out.rows; ++r) {
    bool good = true;
    for (std::size_t c = 0; c < out.cols; ++c) {
      const E e = from_float<E>(load(r * out.cols + c));
      good &= finite(to_float(e));
      out.row(r)[c] = e;
    }
    if (good) continue;
    std::size_t c = 0;
    while (finite(to_float(out.row(r)[c]))) ++c;
    const float value = load(r * out.cols + c);
    return error{errc::bad_value,
                 path + ": tensor " + t.name + " [" + std::to_string(r) + ", " + std::to_string(c) +
                     "] is " + std::to_string(value) +
                     (finite(value) ? ", too large for " + std::string(name(dtype_of<E>)) : "")};
  }
  return {};
}

/// Converts F32, BF16 or F16 to E into `out` (rows, cols). The tensor's shape must be that one; a
/// tensor of one dimension counts as one row. Values must be finite.
template <element E>
[[nodiscard]] result<void> read_matrix(const std::string& path, const tensor& t,
                                       matrix_view<E> out) {
  const bool vector = t.shape.size() == 1 && out.rows == 1 && t.shape[0] == out.cols;
  const bool matrix = t.shape.size() == 2 && t.shape[0] == out.rows && t.shape[1] == out.cols;
  if (!vector && !matrix) {
    return error{errc::bad_shape, path + ": tensor " + t.name + " has shape " +
                                      shape_text(t.shape) + ", needs " +
                                      shape_text(std::vector{out.rows, out.cols})};
  }
  if (t.dtype == name(dtype::f32)) return convert_tensor<float>(path, t, out);
  if (t.dtype == name(dtype::bf16)) return convert_tensor<bf16>(path, t, out);
  if (t.dtype == name(dtype::f16)) return convert_tensor<f16>(path, t, out);
  return error{errc::unsupported,
               path + ": tensor " + t.name + " is " + t.dtype + ", needs F32, BF16 or F16"};
}

}  // namespace crayon::io
