// SPDX-License-Identifier: MIT
// Writing safetensors files: the same content gives the same bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/tensor.hpp>

namespace crayon::io {

/// The bytes that a tensor of this type and shape has; nothing if the format has no such type.
[[nodiscard]] inline std::optional<std::size_t> size_of_shape(const tensor& t) noexcept {
  auto bytes = size_of_dtype(t.dtype);
  for (const std::size_t n : t.shape) {
    if (bytes) *bytes *= n;
  }
  return bytes;
}

/// What stands before the tensors, which follow in this order without gaps: the length of the
/// header and the header, padded with spaces to at least `least` bytes and a multiple of `align`.
/// The tensors' bytes are not looked at.
[[nodiscard]] inline result<std::string> safetensors_prefix(
    const std::string& path, const std::vector<tensor>& tensors,
    const std::map<std::string, std::string>& metadata, std::size_t align = alignment,
    std::size_t least = 0) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const auto& t : tensors) {
    const auto bytes = size_of_shape(t);
    if (!bytes) {
      return error{errc::unsupported,
                   path + ": dtype " + t.dtype + " of tensor " + t.name + " is not known"};
    }
    if (t.name == "__metadata__" || header.contains(t.name)) {
      return error{errc::bad_value, path + ": tensor name " + t.name + " is taken"};
    }
    header[t.name] = {
        {"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {offset, offset + *bytes}}};
    offset += *bytes;
  }
  // Text that is not UTF-8 (a file name in the metadata) is replaced, never thrown at.
  std::string text(8, '\0');
  text += header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.resize((std::max(text.size(), least) + align - 1) / align * align, ' ');
  const std::uint64_t length = text.size() - 8;
  std::memcpy(text.data(), &length, 8);
  return text;
}

/// Puts tensors into the order of a file, and checks that each has the bytes that its type and
/// shape need. Tensors whose sizes are multiples of a cache line come first and so keep to cache
/// lines, then the others, each group by element size (largest first, so that each is aligned for
/// its type) and name. Needs element types of `size_of_dtype`.
[[nodiscard]] inline result<void> arrange(const std::string& path, std::vector<tensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const tensor& a, const tensor& b) {
    const bool ragged_a = a.bytes.size() % alignment != 0;
    const bool ragged_b = b.bytes.size() % alignment != 0;
    if (ragged_a != ragged_b) return ragged_b;
    const auto x = size_of_dtype(a.dtype).value_or(0), y = size_of_dtype(b.dtype).value_or(0);
    return x != y ? x > y : a.name < b.name;
  });
  for (const auto& t : tensors) {
    if (size_of_shape(t) == t.bytes.size()) continue;
    return error{errc::bad_shape, path + ": tensor " + t.name + ", " + t.dtype + " " +
                                      shape_text(t.shape) + ", is given " +
                                      std::to_string(t.bytes.size()) + " bytes"};
  }
  return {};
}

/// The file's bytes. `name` stands in errors.
[[nodiscard]] inline result<std::string> safetensors_bytes(
    const std::string& name, std::vector<tensor> tensors,
    const std::map<std::string, std::string>& metadata = {}) {
  CRAYON_CHECK(arrange(name, tensors));
  CRAYON_TRY(std::string bytes, safetensors_prefix(name, tensors, metadata));
  std::size_t size = bytes.size();
  for (const auto& t : tensors) size += t.bytes.size();
  bytes.reserve(size);
  for (const auto& t : tensors) {
    bytes.append(reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size());
  }
  return bytes;
}

/// Writes `path` as a whole or not at all. The first tensor starts on a cache line.
[[nodiscard]] inline result<void> write_safetensors(
    const std::string& path, std::vector<tensor> tensors,
    const std::map<std::string, std::string>& metadata = {}, bool sync = false) {
  CRAYON_CHECK(arrange(path, tensors));
  CRAYON_TRY(const std::string prefix, safetensors_prefix(path, tensors, metadata));
  CRAYON_TRY(atomic_file file, atomic_file::create(path));
  CRAYON_CHECK(file.write(prefix));
  for (const auto& t : tensors) CRAYON_CHECK(file.write(t.bytes));
  return file.commit(sync);
}

}  // namespace crayon::io
