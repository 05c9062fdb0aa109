// SPDX-License-Identifier: MIT
// Reading safetensors: 8 bytes of header length, a JSON header, then the tensors, little endian.
// Format: https://github.com/huggingface/safetensors (README, "Format").
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/core/element.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/json.hpp>
#include <crayon/io/tensor.hpp>

namespace crayon::io {

static_assert(std::endian::native == std::endian::little, "safetensors is little endian");

/// A safetensors file, mapped. Everything the header says has been checked: types are known, shapes
/// match the byte ranges, and the ranges cover the file without overlap or gap.
class safetensors {
 public:
  [[nodiscard]] static result<safetensors> open(std::string path) {
    CRAYON_TRY(mapped_file file, mapped_file::open(std::move(path)));
    return read(std::move(file));
  }
  [[nodiscard]] static result<safetensors> read(mapped_file file);

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  /// The whole file.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return file_.bytes(); }
  /// In the order of their bytes in the file.
  [[nodiscard]] const std::vector<tensor>& tensors() const noexcept { return tensors_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept {
    return metadata_;
  }
  /// The tensor of that name, or nullptr.
  [[nodiscard]] const tensor* find(std::string_view name) const noexcept {
    const auto at =
        std::lower_bound(by_name_.begin(), by_name_.end(), name,
                         [&](std::size_t i, std::string_view n) { return tensors_[i].name < n; });
    return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
  }

 private:
  mapped_file file_;
  std::vector<tensor> tensors_;
  std::vector<std::size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

namespace safetensors_header {

inline constexpr std::size_t longest = 100'000'000;  ///< the reference reader's limit

[[nodiscard]] inline std::string at(const std::string& path, const std::string& name) {
  return path + ": tensor " + name;
}

[[nodiscard]] inline result<std::size_t> number(const nlohmann::json& value,
                                                const std::string& what) {
  if (!value.is_number_unsigned()) {
    return error{errc::bad_format, what + " is " + value.dump() + ", not a count"};
  }
  return value.get<std::size_t>();
}

/// Checks one entry of the header against the bytes after it.
[[nodiscard]] inline result<tensor> entry(const std::string& path, const std::string& name,
                                          const nlohmann::json& value,
                                          std::span<const std::byte> body) {
  const auto bad = [&](errc code, const std::string& text) {
    return error{code, at(path, name) + ": " + text};
  };
  if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
      !value.contains("shape") || !value["shape"].is_array() || !value.contains("data_offsets") ||
      !value["data_offsets"].is_array() || value["data_offsets"].size() != 2) {
    return bad(errc::bad_format, "needs dtype, shape and two data_offsets");
  }
  tensor t;
  t.name = name;
  t.dtype = value["dtype"].get<std::string>();
  const auto element_size = size_of_dtype(t.dtype);
  if (!element_size) return bad(errc::unsupported, "dtype " + t.dtype + " is not known");
  std::size_t bytes = *element_size;
  bool too_large = false;
  for (const auto& dimension : value["shape"]) {
    CRAYON_TRY(const std::size_t n, number(dimension, at(path, name) + ": a dimension"));
    too_large |= n != 0 && bytes > std::numeric_limits<std::size_t>::max() / n;
    bytes *= n;
    t.shape.push_back(n);
  }
  if (too_large) return bad(errc::bad_shape, "shape " + shape_text(t.shape) + " is too large");
  CRAYON_TRY(const std::size_t first,
             number(value["data_offsets"][0], at(path, name) + ": offset"));
  CRAYON_TRY(const std::size_t last, number(value["data_offsets"][1], at(path, name) + ": offset"));
  const std::string range = "bytes " + std::to_string(first) + ".." + std::to_string(last);
  if (first > last) return bad(errc::bad_format, range + " run backwards");
  if (last > body.size()) {
    return bad(errc::bad_format, range + " end after the file's " + std::to_string(body.size()) +
                                     " bytes of tensors (truncated?)");
  }
  if (last - first != bytes) {
    return bad(errc::bad_shape, t.dtype + " " + shape_text(t.shape) + " needs " +
                                    std::to_string(bytes) + " bytes, the file has " +
                                    std::to_string(last - first));
  }
  t.bytes = body.subspan(first, bytes);
  return t;
}

/// The header as JSON; names that occur twice are an error, as they are for the reference reader.
[[nodiscard]] inline result<nlohmann::json> parse(const std::string& path, std::string_view text) {
  if (!is_shallow_json(text)) {
    return error{errc::bad_format, path + ": the safetensors header is nested too deeply"};
  }
  if (text.find('\0') != std::string_view::npos) {  // the parser takes it for the end
    return error{errc::bad_format, path + ": the safetensors header has a byte 0"};
  }
  std::vector<std::string> names;
  const auto note = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& key) {
    if (depth == 1 && event == nlohmann::json::parse_event_t::key) {
      names.push_back(key.get<std::string>());
    }
    return true;
  };
  auto header = nlohmann::json::parse(text.begin(), text.end(), note, false);
  if (!header.is_object()) {
    return error{errc::bad_format, path + ": the safetensors header is not a JSON object"};
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    return error{errc::bad_format, at(path, *twice) + " occurs twice in the header"};
  }
  return header;
}

}  // namespace safetensors_header

inline result<safetensors> safetensors::read(mapped_file file) {
  safetensors s;
  s.file_ = std::move(file);
  const auto bytes = s.file_.bytes();
  const auto bad = [&](const std::string& text) {
    return error{errc::bad_format, s.path() + ": " + text};
  };
  if (bytes.size() < 8) {
    return bad("not a safetensors file: " + std::to_string(bytes.size()) + " bytes, needs 8");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > safetensors_header::longest || length > bytes.size() - 8) {
    return bad("not a safetensors file: a header of " + std::to_string(length) +
               " bytes in a file of " + std::to_string(bytes.size()));
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data() + 8);
  const auto body = bytes.subspan(8 + static_cast<std::size_t>(length));
  CRAYON_TRY(const nlohmann::json header,
             safetensors_header::parse(s.path(), {text, static_cast<std::size_t>(length)}));
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      CRAYON_TRY(tensor t, safetensors_header::entry(s.path(), name, value, body));
      s.tensors_.push_back(std::move(t));
      continue;
    }
    if (!value.is_object()) return bad("__metadata__ is not a JSON object");
    for (const auto& [key, item] : value.items()) {
      if (!item.is_string()) return bad("__metadata__." + key + " is not a string");
      s.metadata_[key] = item.get<std::string>();
    }
  }
  std::stable_sort(s.tensors_.begin(), s.tensors_.end(), [](const tensor& a, const tensor& b) {
    return std::pair(a.bytes.data(), a.bytes.size()) < std::pair(b.bytes.data(), b.bytes.size());
  });
  std::size_t end = 0;
  for (const auto& t : s.tensors_) {
    const auto first = static_cast<std::size_t>(t.bytes.data() - body.data());
    if (first != end) {
      return bad("tensor " + t.name + " starts at byte " + std::to_string(first) +
                 ", the one before ends at " + std::to_string(end));
    }
    end += t.bytes.size();
  }
  if (end != body.size()) {
    return bad("the tensors end at byte " + std::to_string(end) + ", the file has " +
               std::to_string(body.size()) + " bytes of them");
  }
  s.by_name_.resize(s.tensors_.size());
  for (std::size_t i = 0; i < s.by_name_.size(); ++i) s.by_name_[i] = i;
  std::sort(s.by_name_.begin(), s.by_name_.end(),
            [&](std::size_t a, std::size_t b) { return s.tensors_[a].name < s.tensors_[b].name; });
  return s;
}

/// Reads the tensor `name` into `out`; the file must have it in that shape, and every value finite.
template <element E>
[[nodiscard]] result<void> read_matrix(const safetensors& file, std::string_view name,
                                       matrix_view<E> out) {
  const tensor* t = file.find(name);
  if (t == nullptr) {
    return error{errc::not_found, file.path() + ": tensor " + std::string(name) + " is missing"};
  }
  return read_matrix(file.path(), *t, out);
}

}  // namespace crayon::io
