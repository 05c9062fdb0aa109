// SPDX-License-Identifier: MIT
// Writing safetensors files: the same content gives the same bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/tensor.hpp>

namespace crayon::io {

/// Writes `path` as a whole or not at all. The first tensor starts on a cache line. Tensors whose
/// sizes are multiples of one come first and so keep to cache lines, then the others, each group by
/// element size (largest first, so that each is aligned for its type) and name. Needs element types
/// of `size_of_dtype`.
[[nodiscard]] inline result<void> write_safetensors(
    const std::string& path, std::vector<tensor> tensors,
    const std::map<std::string, std::string>& metadata = {}, bool sync = false) {
  std::sort(tensors.begin(), tensors.end(), [](const tensor& a, const tensor& b) {
    const bool ragged_a = a.bytes.size() % alignment != 0;
    const bool ragged_b = b.bytes.size() % alignment != 0;
    if (ragged_a != ragged_b) return ragged_b;
    const auto x = size_of_dtype(a.dtype).value_or(0), y = size_of_dtype(b.dtype).value_or(0);
    return x != y ? x > y : a.name < b.name;
  });
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const auto& t : tensors) {
    std::size_t bytes = size_of_dtype(t.dtype).value_or(0);
    for (const std::size_t n : t.shape) bytes *= n;
    if (bytes != t.bytes.size() || !size_of_dtype(t.dtype)) {
      return error{errc::bad_shape, path + ": tensor " + t.name + ", " + t.dtype + " " +
                                        shape_text(t.shape) + ", is given " +
                                        std::to_string(t.bytes.size()) + " bytes"};
    }
    if (t.name == "__metadata__" || header.contains(t.name)) {
      return error{errc::bad_value, path + ": tensor name " + t.name + " is taken"};
    }
    header[t.name] = {
        {"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  // Text that is not UTF-8 (a file name in the metadata) is replaced, never thrown at.
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.resize((8 + text.size() + alignment - 1) / alignment * alignment - 8, ' ');
  const std::uint64_t length = text.size();
  char prefix[8];
  std::memcpy(prefix, &length, 8);

  CRAYON_TRY(atomic_file file, atomic_file::create(path));
  CRAYON_CHECK(file.write(std::string_view(prefix, 8)));
  CRAYON_CHECK(file.write(text));
  for (const auto& t : tensors) CRAYON_CHECK(file.write(t.bytes));
  return file.commit(sync);
}

}  // namespace crayon::io
