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
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/json.hpp>
#include <crayon/io/safetensors.hpp>

namespace crayon::adapter {

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

/// Over every tensor and every metadata entry but the checksum itself.
[[nodiscard]] inline std::string checksum(const std::vector<io::tensor>& tensors,
                                          const std::map<std::string, std::string>& metadata) {
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
    h.add(t->bytes.data(), t->bytes.size());
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
  }
  return sites.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// Nothing if the text is not what `sites_text` writes.
[[nodiscard]] inline std::optional<std::vector<site_shape>> sites_of(const std::string& text) {
  const json sites = io::parse_json(text);
  if (!sites.is_array()) return std::nullopt;
  std::vector<site_shape> shapes;
  for (const auto& s : sites) {
    const bool good = s.is_array() && s.size() == 5 && s[0].is_string() &&
                      s[1].is_number_unsigned() && s[2].is_number_unsigned() &&
                      s[3].is_number_unsigned() && s[4].is_string();
    const auto scale = good ? float_of(s[4].get<std::string>()) : std::nullopt;
    if (!scale) return std::nullopt;
    shapes.push_back({s[0].get<std::string>(), s[1].get<std::size_t>(), s[2].get<std::size_t>(),
                      s[3].get<std::size_t>(), *scale});
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

/// "<module>.lora_A": [tiles, adapters, tile]
[[nodiscard]] inline std::string key(const site_shape& s, char factor) {
  return s.module + ".lora_" + factor;
}

/// The tensor of one factor, of rank * side elements, is there and has its shape.
[[nodiscard]] inline result<void> check_tensor(const io::safetensors& file, const std::string& name,
                                               std::size_t rank, std::size_t side,
                                               std::size_t count, std::size_t tile) {
  const auto* t = file.find(name);
  if (t == nullptr)
    return error{errc::bad_format, file.path() + ": tensor " + name + " is missing"};
  const bool too_large = side != 0 && rank > (~std::size_t{0} >> 8) / side;
  const std::size_t elements = rank * side;
  const std::vector<std::size_t> needed{tile == 0 ? 0 : elements / tile + (elements % tile != 0),
                                        count, tile};
  if (too_large || t->shape != needed) {
    return error{errc::bad_shape, file.path() + ": tensor " + name + " has shape " +
                                      io::shape_text(t->shape) + ", a factor of " +
                                      std::to_string(rank) + " x " + std::to_string(side) +
                                      " needs " + io::shape_text(needed)};
  }
  return {};
}

/// As the file will hold it: bytes that are not UTF-8 are replaced before the checksum is taken.
[[nodiscard]] inline std::string utf8(const std::string& text) {
  return json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace))
      .get<std::string>();
}

inline constexpr std::string_view note_prefix = "note.";

}  // namespace pool_json

}  // namespace crayon::adapter
