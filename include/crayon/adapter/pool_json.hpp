// SPDX-License-Identifier: MIT
// How a pool file spells what is not a tensor, and its checksum.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool_info.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/json.hpp>
#include <crayon/io/safetensors.hpp>

namespace crayon::adapter {

/// What is written. A file of format 1 is still read: it has one checksum over all its bytes, no
/// spare slots and no R factors.
inline constexpr std::string_view pool_format = "crayon.pool/2";
inline constexpr std::string_view pool_format_1 = "crayon.pool/1";

/// The element type of the factors in a pool file; also tells whether a file is a pool.
[[nodiscard]] inline result<dtype> pool_dtype(const io::safetensors& file) {
  const auto format = file.metadata().find("format");
  if (format == file.metadata().end() ||
      (format->second != pool_format && format->second != pool_format_1)) {
    return error{errc::bad_format,
                 file.path() + ": not a pool: its format is " +
                     (format == file.metadata().end() ? "not given" : format->second) + ", needs " +
                     std::string(pool_format)};
  }
  for (const auto& t : file.tensors()) {
    if (!t.name.ends_with(".lora_A")) continue;
    for (const dtype type : {dtype::f32, dtype::bf16, dtype::f16}) {
      if (t.dtype == name(type)) return type;
    }
    return error{errc::unsupported, file.path() + ": tensor " + t.name + " is " + t.dtype +
                                        ", needs F32, BF16 or F16"};
  }
  return error{errc::bad_format, file.path() + ": a pool without factors"};
}

namespace pool_json {

using nlohmann::json;

/// Shortest text that reads back as the same float.
[[nodiscard]] inline std::string text_of(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}
[[nodiscard]] inline std::optional<float> float_of(std::string_view text) {
  float value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size() || !io::finite(value)) {
    return std::nullopt;
  }
  return value;
}

/// "<module>.lora_A", "<module>.lora_B": [tiles, slots, tile]
[[nodiscard]] inline std::string key(const site_shape& s, char factor) {
  return s.module + ".lora_" + factor;
}
/// "<module>.R_A", "<module>.R_B": (K, K), F32, K the sum of the ranks
[[nodiscard]] inline std::string core_key(const site_shape& s, char factor) {
  return s.module + ".R_" + factor;
}
/// The tensors whose bytes have checksums of their own in format 2.
[[nodiscard]] inline bool is_large(std::string_view name) noexcept {
  for (const std::string_view end : {".lora_A", ".lora_B", ".R_A", ".R_B"}) {
    if (name.ends_with(end)) return true;
  }
  return false;
}

/// Over every tensor and every metadata entry but the checksum itself. In format 2 `with_large` is
/// false: of the large tensors it has name, type and shape, and tensors of their checksums.
[[nodiscard]] inline std::string checksum(const std::vector<io::tensor>& tensors,
                                          const std::map<std::string, std::string>& metadata,
                                          bool with_large) {
  std::map<std::string_view, const io::tensor*> by_name;
  for (const auto& t : tensors) by_name[t.name] = &t;
  hasher h;
  const auto add = [&](std::string_view text) {
    const std::uint64_t length = text.size();
    h.add(&length, sizeof length);
    h.add(text);
  };
  for (const auto& [name, t] : by_name) {
    add(name);
    add(t->dtype);
    add(io::shape_text(t->shape));
    if (with_large || !is_large(name)) h.add(t->bytes.data(), t->bytes.size());
  }
  for (const auto& [key, value] : metadata) {
    if (key == "checksum") continue;
    add(key);
    add(value);
  }
  return h.hex();
}

[[nodiscard]] inline std::string sites_text(const std::vector<site_shape>& shapes) {
  json sites = json::array();
  for (const auto& s : shapes) {
    sites.push_back({s.module, s.out, s.in, s.rank, text_of(s.scale)});
    if (s.kind != site_kind::linear) sites.back().push_back(name(s.kind));
  }
  return sites.dump(-1, ' ', false, json::error_handler_t::replace);
}

[[nodiscard]] inline std::optional<site_kind> kind_of(std::string_view text) noexcept {
  for (const auto kind : {site_kind::linear, site_kind::embedding, site_kind::bias}) {
    if (text == name(kind)) return kind;
  }
  return std::nullopt;
}

/// Nothing if the text is not what `sites_text` writes.
[[nodiscard]] inline std::optional<std::vector<site_shape>> sites_of(const std::string& text) {
  const json sites = io::parse_json(text);
  if (!sites.is_array()) return std::nullopt;
  std::vector<site_shape> shapes;
  for (const auto& s : sites) {
    const bool good = s.is_array() && (s.size() == 5 || s.size() == 6) && s[0].is_string() &&
                      s[1].is_number_unsigned() && s[2].is_number_unsigned() &&
                      s[3].is_number_unsigned() && s[4].is_string() && s.back().is_string();
    const auto scale = good ? float_of(s[4].get<std::string>()) : std::nullopt;
    const auto kind =
        good && s.size() == 6 ? kind_of(s[5].get<std::string>()) : std::optional(site_kind::linear);
    if (!scale || !kind) return std::nullopt;
    shapes.push_back({s[0].get<std::string>(), s[1].get<std::size_t>(), s[2].get<std::size_t>(),
                      s[3].get<std::size_t>(), *scale, *kind});
  }
  return shapes;
}

[[nodiscard]] inline std::optional<std::vector<std::string>> names_of(const std::string& text) {
  const json names = io::parse_json(text);
  if (!names.is_array()) return std::nullopt;
  std::vector<std::string> list;
  for (const auto& n : names) {
    if (!n.is_string()) return std::nullopt;
    list.push_back(n.get<std::string>());
  }
  return list;
}

/// As the file will hold it: bytes that are not UTF-8 are replaced before the checksum is taken.
[[nodiscard]] inline std::string utf8(const std::string& text) {
  return json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace))
      .get<std::string>();
}

/// What is not the default.
inline void write_numbers(const pool_info& info, std::map<std::string, std::string>& metadata) {
  if (info.layer != 0) metadata["layer"] = std::to_string(info.layer);
  if (info.centroids != 1) metadata["centroids"] = std::to_string(info.centroids);
  if (info.top_k != 0) metadata["top_k"] = std::to_string(info.top_k);
}
/// False if one of them is not what `write_numbers` writes.
[[nodiscard]] inline bool read_numbers(const std::map<std::string, std::string>& metadata,
                                       pool_info& info) {
  for (const auto& [key, to] :
       {std::pair("layer", &info.layer), std::pair("centroids", &info.centroids),
        std::pair("top_k", &info.top_k)}) {
    const auto found = metadata.find(key);
    if (found == metadata.end()) continue;
    const std::string& text = found->second;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), *to);
    if (read.ec != std::errc{} || read.ptr != text.data() + text.size() || *to == 0 ||
        *to > std::size_t{1} << 20) {
      return false;
    }
  }
  return true;
}

inline constexpr std::string_view note_prefix = "note.";

}  // namespace pool_json

}  // namespace crayon::adapter
