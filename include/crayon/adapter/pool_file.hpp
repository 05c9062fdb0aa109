// SPDX-License-Identifier: MIT
// A pool as one safetensors file: interleaved factors, index vectors, the rest as metadata.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/adapter/pool.hpp>
#include <crayon/adapter/pool_json.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/io/safetensors_write.hpp>

namespace crayon::adapter {

inline constexpr std::string_view pool_format = "crayon.pool/1";

/// Writes the pool as a whole or not at all; the same pool gives the same bytes.
template <element E>
[[nodiscard]] result<void> save_pool(const std::string& path, const pool<E>& p) {
  const pool_info& info = p.info();
  std::map<std::string, std::string> metadata{
      {"format", std::string(pool_format)},
      {"adapters", std::to_string(p.size())},
      {"sites", pool_json::sites_text(p.shapes())},
      {"names",
       nlohmann::json(info.names).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)},
      {"base_model", pool_json::utf8(info.base_model)},
      {"base_hash", pool_json::utf8(info.base_hash)},
      {"embedding", pool_json::utf8(info.embedding)},
      {"matcher", pool_json::utf8(info.matcher)},
      {"blend", pool_json::utf8(info.blend)},
      {"tau", pool_json::text_of(info.tau)}};
  for (const auto& [key, value] : info.notes) {
    metadata[std::string(pool_json::note_prefix) + pool_json::utf8(key)] = pool_json::utf8(value);
  }
  std::vector<io::tensor> tensors;
  const auto add = [&](std::string name, std::string_view dtype, std::vector<std::size_t> shape,
                       std::span<const std::byte> bytes) {
    tensors.push_back({std::move(name), std::string(dtype), std::move(shape), bytes});
  };
  for (std::size_t i = 0; i < p.sites(); ++i) {
    for (const auto& [view, factor] : {std::pair(p.a(i), 'A'), std::pair(p.b(i), 'B')}) {
      add(pool_json::key(p.shapes()[i], factor), name(dtype_of<E>),
          {view.tiles(), view.count, view.tile}, std::as_bytes(std::span(view.data, view.size())));
    }
  }
  const auto index = p.index();
  add("index", "F32", {index.rows, index.cols}, std::as_bytes(std::span(index.data, index.size())));
  add("centre", "F32", {info.centre.size()}, std::as_bytes(std::span(info.centre)));
  if (!info.projection.empty()) {
    add("projection", "F32", {index.cols, info.centre.size()},
        std::as_bytes(std::span(info.projection)));
  }
  metadata["checksum"] = pool_json::checksum(tensors, metadata);
  return io::write_safetensors(path, std::move(tensors), metadata);
}

/// The element type of the factors in a pool file; also tells whether a file is a pool.
[[nodiscard]] inline result<dtype> pool_dtype(const io::safetensors& file) {
  const auto format = file.metadata().find("format");
  if (format == file.metadata().end() || format->second != pool_format) {
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

/// Loads a pool whose factors are stored as E, or as anything where E is f32: copied, so that the
/// file may go. Every size, every value and the checksum are checked.
template <element E>
[[nodiscard]] result<pool<E>> load_pool(const std::string& path) {
  CRAYON_TRY(const io::safetensors file, io::safetensors::open(path));
  CRAYON_TRY(const dtype stored, pool_dtype(file));
  if (stored != dtype_of<E> && dtype_of<E> != dtype::f32) {  // widening loses nothing
    return error{errc::mismatch, path + ": factors are " + std::string(name(stored)) +
                                     ", asked for " + std::string(name(dtype_of<E>))};
  }
  const auto bad = [&](const std::string& text) {
    return error{errc::bad_format, path + ": " + text};
  };
  const auto text = [&](const std::string& key) {
    const auto at = file.metadata().find(key);
    return at == file.metadata().end() ? std::string() : at->second;
  };
  const std::string sum = pool_json::checksum(file.tensors(), file.metadata());
  if (sum != text("checksum")) {
    return bad("checksum is " + text("checksum") + ", the content has " + sum);
  }
  auto shapes = pool_json::sites_of(text("sites"));
  auto names = pool_json::names_of(text("names"));
  const auto tau = pool_json::float_of(text("tau"));
  if (!shapes) return bad("metadata \"sites\" is not a list of sites");
  if (!names || std::to_string(names->size()) != text("adapters")) {
    return bad("metadata \"names\" is not a list of " + text("adapters") + " names");
  }
  if (!tau) return bad("metadata \"tau\" is " + text("tau") + ", needs a number");
  pool_info info{text("base_model"),
                 text("base_hash"),
                 text("embedding"),
                 text("matcher"),
                 text("blend"),
                 *tau,
                 *std::move(names),
                 {},
                 {},
                 {}};
  for (const auto& [key, value] : file.metadata()) {
    if (key.starts_with(pool_json::note_prefix)) {
      info.notes[key.substr(pool_json::note_prefix.size())] = value;
    }
  }
  const std::size_t count = info.names.size();
  const auto vectors = [&](const char* key, std::size_t rows) -> result<aligned_vector<float>> {
    const auto* t = file.find(key);
    if (t == nullptr) return bad("tensor " + std::string(key) + " is missing");
    aligned_vector<float> values(t->bytes.size() / sizeof(float));  // bounded by the file
    CRAYON_CHECK(io::read_matrix(
        file, key,
        matrix_view<float>(values.data(), rows, values.size() / std::max<std::size_t>(rows, 1))));
    return values;
  };
  CRAYON_TRY(const auto index, vectors("index", count));
  CRAYON_TRY(const auto centre, vectors("centre", 1));
  info.centre.assign(centre.begin(), centre.end());
  const bool projected = file.find("projection") != nullptr;
  if (projected) {
    const std::size_t width = index.size() / std::max<std::size_t>(count, 1);
    CRAYON_TRY(const auto projection, vectors("projection", width));
    info.projection.assign(projection.begin(), projection.end());
  }

  const auto* first = shapes->empty() ? nullptr : file.find(pool_json::key((*shapes)[0], 'A'));
  const std::size_t tile = first != nullptr && first->shape.size() == 3 ? first->shape[2] : 0;
  // The tensors, whose sizes are bounded by the file, vouch for the sites before memory is taken.
  for (const auto& s : *shapes) {
    for (const auto& [side, factor] : {std::pair(s.in, 'A'), std::pair(s.out, 'B')}) {
      CRAYON_CHECK(
          pool_json::check_tensor(file, pool_json::key(s, factor), s.rank, side, count, tile));
    }
  }
  auto loaded = pool<E>::zeros(
      *std::move(shapes), count,
      {index.data(), count, index.size() / std::max<std::size_t>(count, 1)}, std::move(info), tile);
  if (!loaded) return error{loaded.error().code, path + ": " + loaded.error().text};
  for (std::size_t i = 0; i < loaded->sites(); ++i) {
    for (const auto& [to, factor] : {std::pair(loaded->a(i), 'A'), std::pair(loaded->b(i), 'B')}) {
      io::tensor tiles = *file.find(pool_json::key(loaded->shapes()[i], factor));
      tiles.shape = {to.tiles() * to.count, to.tile};  // one row per tile
      CRAYON_CHECK(
          io::read_matrix(path, tiles, matrix_view<E>(to.data, to.tiles() * to.count, to.tile)));
    }
  }
  const std::size_t needed = 2 * loaded->sites() + 2 + (projected ? 1 : 0);
  if (file.tensors().size() != needed) {
    return bad("has " + std::to_string(file.tensors().size()) + " tensors, needs " +
               std::to_string(needed));
  }
  return loaded;
}

}  // namespace crayon::adapter
