// SPDX-License-Identifier: MIT
// What a device needs to know of a pool that it does not have.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_hash.hpp>
#include <crayon/adapter/pool_info.hpp>
#include <crayon/adapter/pool_json.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/io/safetensors_write.hpp>
#include <crayon/match/blend_request.hpp>

namespace crayon::serve {

inline constexpr std::string_view pool_index_format = "crayon.pool_index/1";

/// The index vectors of a pool and how they were made; no factors.
struct pool_index {
  adapter::pool_info info;
  aligned_vector<float> vectors;  ///< (N, d)
  std::uint64_t hash = 0;         ///< `adapter::pool_hash` of the pool

  [[nodiscard]] std::size_t size() const noexcept { return info.names.size(); }
  /// (N, d)
  [[nodiscard]] matrix_view<const float> view() const noexcept {
    return {vectors.data(), size(), vectors.size() / size()};
  }
};

namespace detail {

[[nodiscard]] inline std::optional<std::uint64_t> hash_of(std::string_view digits) noexcept {
  std::uint64_t value = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  const bool whole = read.ec == std::errc{} && read.ptr == digits.data() + digits.size();
  return whole && digits.size() == 16 ? std::optional(value) : std::nullopt;
}

}  // namespace detail

/// A safetensors body: "index" F32 (N, d), "centre" F32 (D) and, if the pool has one, "projection"
/// F32 (d, D); the rest of `pool_info`, but for notes, and the pool's hash as metadata.
template <class P>
[[nodiscard]] result<std::string> pool_index_body(const P& pool) {
  using adapter::pool_json::utf8;
  const adapter::pool_info& info = pool.info();
  const auto names =
      nlohmann::json(info.names).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::map<std::string, std::string> metadata{
      {"format", std::string(pool_index_format)},   {"pool_hash", hex(adapter::pool_hash(pool))},
      {"base_model", utf8(info.base_model)},        {"base_hash", utf8(info.base_hash)},
      {"embedding", utf8(info.embedding)},          {"matcher", utf8(info.matcher)},
      {"blend", utf8(info.blend)},                  {"names", names},
      {"tau", adapter::pool_json::text_of(info.tau)}};
  adapter::pool_json::write_numbers(info, metadata);
  std::vector<io::tensor> tensors;
  tensors.push_back(io::tensor_of("index", pool.index()));
  const auto floats = [&](const char* name, std::vector<std::size_t> shape,
                          const std::vector<float>& values) {
    tensors.push_back({name, "F32", std::move(shape), std::as_bytes(std::span(values))});
  };
  floats("centre", {info.centre.size()}, info.centre);
  if (!info.projection.empty()) {
    floats("projection", {info.projection.size() / info.centre.size(), info.centre.size()},
           info.projection);
  }
  return io::safetensors_bytes("the pool's index", std::move(tensors), metadata);
}

/// What `pool_index_body` gives, from a source of that name; nothing in it is taken on trust.
[[nodiscard]] inline result<pool_index> read_pool_index(const std::string& name,
                                                        std::string_view body) {
  CRAYON_TRY(io::mapped_file bytes,
             io::mapped_file::copy_of(name, std::as_bytes(std::span(body))));
  CRAYON_TRY(const io::safetensors file, io::safetensors::read(std::move(bytes)));
  const auto text = [&](const char* key) {
    const auto at = file.metadata().find(key);
    return at == file.metadata().end() ? std::string() : at->second;
  };
  const auto bad = [&](const std::string& what) {
    return error{errc::bad_format, name + ": " + what};
  };
  if (text("format") != pool_index_format) {
    return bad("not the index of a pool: its format is \"" + text("format") + "\", needs " +
               std::string(pool_index_format));
  }
  const auto hash = detail::hash_of(text("pool_hash"));
  auto names = adapter::pool_json::names_of(text("names"));
  const auto tau = adapter::pool_json::float_of(text("tau"));
  if (!hash || !names || !tau) return bad("pool_hash, names or tau is not what it should be");
  pool_index index;
  index.hash = *hash;
  index.info.names = *std::move(names);
  index.info.tau = *tau;
  index.info.base_model = text("base_model");
  index.info.base_hash = text("base_hash");
  index.info.embedding = text("embedding");
  index.info.matcher = text("matcher");
  index.info.blend = text("blend");
  if (!adapter::pool_json::read_numbers(file.metadata(), index.info)) {
    return bad("layer, centroids or top_k is not a number of at most 2^20");
  }
  const std::size_t n = index.size();
  if (n == 0 || n > match::blend_request::most_scores) {
    return bad(std::to_string(n) + " adapters, needs 1 to " +
               std::to_string(match::blend_request::most_scores));
  }
  const auto read = [&](const char* key, std::size_t rows, auto& to) -> result<void> {
    const io::tensor* t = file.find(key);
    if (t == nullptr) return bad("tensor " + std::string(key) + " is missing");
    to.resize(t->bytes.size() / sizeof(float));
    return io::read_matrix(name, *t, matrix_view<float>(to.data(), rows, to.size() / rows));
  };
  CRAYON_CHECK(read("index", n, index.vectors));
  CRAYON_CHECK(read("centre", 1, index.info.centre));
  if (file.find("projection") != nullptr) {
    const std::size_t width = index.vectors.size() / n / index.info.centroids;
    if (width == 0) return bad("a projection, and index vectors of length 0");
    CRAYON_CHECK(read("projection", width, index.info.projection));
  }
  if (const auto fits = adapter::check_index_of(n, index.view(), index.info); !fits) {
    return error{fits.error().code, name + ": " + fits.error().text};
  }
  return index;
}

}  // namespace crayon::serve
