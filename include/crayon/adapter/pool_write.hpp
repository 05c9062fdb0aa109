// SPDX-License-Identifier: MIT
// Writing pool files, a row of tiles at a time: neither pool has to fit into memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/adapter/cores.hpp>
#include <crayon/adapter/pool_checksum.hpp>
#include <crayon/adapter/pool_info.hpp>
#include <crayon/adapter/pool_json.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/function_ref.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/safetensors_write.hpp>

namespace crayon::adapter {

/// All of a pool file but the factors' bytes. Refers to what somebody else owns.
struct pool_parts {
  dtype type;
  const std::vector<site_shape>& shapes;
  const pool_info& info;              ///< with a name for each adapter
  matrix_view<const float> index;     ///< (N, d)
  std::size_t tile;                   ///< elements
  std::size_t slots;                  ///< N and the spare ones
  std::span<const site_cores> cores;  ///< empty: none

  [[nodiscard]] std::size_t size() const noexcept { return info.names.size(); }
  [[nodiscard]] std::size_t tile_bytes() const noexcept { return tile * size_of(type); }
  [[nodiscard]] std::size_t tiles(std::size_t f) const noexcept {
    const auto& s = shapes[f / 2];
    return (s.rank * (f % 2 == 0 ? s.in : s.out) + tile - 1) / tile;
  }
  [[nodiscard]] std::size_t factor_bytes(std::size_t f) const noexcept {
    return tiles(f) * slots * tile_bytes();
  }
  [[nodiscard]] std::string tensor_name(std::size_t f) const {
    return pool_json::key(shapes[f / 2], f % 2 == 0 ? 'A' : 'B');
  }
  /// Where the tensors after the factors begin, counted from the first tensor.
  [[nodiscard]] std::size_t tail() const noexcept {
    std::size_t bytes = 0;
    for (std::size_t f = 0; f < 2 * shapes.size(); ++f) bytes += factor_bytes(f);
    return bytes;
  }
};

/// The factors' checksums and the rest of a file: its tensors in order, the factors first.
class pool_tensors {
 public:
  explicit pool_tensors(const pool_parts& parts)
      : parts_(parts), sums_(2 * parts.shapes.size() * parts.slots) {
    for (const auto& c : parts.cores) {
      core_sums_.push_back(core_sum(bytes_of(c.r_a)));
      core_sums_.push_back(core_sum(bytes_of(c.r_b)));
    }
  }

  /// Of one slot of factor f.
  [[nodiscard]] std::uint64_t& sum(std::size_t f, std::size_t slot) noexcept {
    return sums_[f * parts_.slots + slot];
  }

  /// The header, of at least `least` bytes, with the checksum over everything. Factors whose tiles
  /// are whole pages begin on a page.
  [[nodiscard]] result<std::string> prefix(const std::string& path, std::size_t least) const {
    auto all = tail();
    std::vector<io::tensor> tensors;
    for (std::size_t f = 0; f < 2 * parts_.shapes.size(); ++f) {
      tensors.push_back({parts_.tensor_name(f),
                         std::string(name(parts_.type)),
                         {parts_.tiles(f), parts_.slots, parts_.tile},
                         {}});
    }
    std::move(all.begin(), all.end(), std::back_inserter(tensors));
    auto metadata = this->metadata();
    metadata["checksum"] = pool_json::checksum(tensors, metadata, false);
    const std::size_t align = parts_.tile_bytes() % page == 0 ? page : alignment;
    return io::safetensors_prefix(path, tensors, metadata, align, least);
  }

  /// The tensors after the factors.
  [[nodiscard]] std::vector<io::tensor> tail() const {
    std::vector<io::tensor> tensors;
    const std::size_t sites = parts_.shapes.size(), n = parts_.size();
    tensors.push_back(
        {"checksums", "U64", {2 * sites, parts_.slots}, std::as_bytes(std::span(sums_))});
    if (!parts_.cores.empty()) {
      tensors.push_back(
          {"core_checksums", "U64", {sites, 2}, std::as_bytes(std::span(core_sums_))});
    }
    for (std::size_t i = 0; i < parts_.cores.size(); ++i) {
      for (const auto& [m, factor] :
           {std::pair(parts_.cores[i].r_a, 'A'), std::pair(parts_.cores[i].r_b, 'B')}) {
        tensors.push_back(
            {pool_json::core_key(parts_.shapes[i], factor), "F32", {m.rows, m.cols}, bytes_of(m)});
      }
    }
    const auto& info = parts_.info;
    tensors.push_back({"index", "F32", {n, parts_.index.cols}, bytes_of(parts_.index)});
    tensors.push_back(
        {"centre", "F32", {info.centre.size()}, std::as_bytes(std::span(info.centre))});
    if (!info.projection.empty()) {
      tensors.push_back({"projection",
                         "F32",
                         {parts_.index.cols / info.centroids, info.centre.size()},
                         std::as_bytes(std::span(info.projection))});
    }
    return tensors;
  }

 private:
  static constexpr std::size_t page = 4096;

  [[nodiscard]] static std::span<const std::byte> bytes_of(matrix_view<const float> m) noexcept {
    CRAYON_ASSERT(m.contiguous());
    return std::as_bytes(std::span(m.data, m.size()));
  }

  [[nodiscard]] std::map<std::string, std::string> metadata() const {
    using pool_json::utf8;
    const auto& info = parts_.info;
    std::map<std::string, std::string> all{
        {"format", std::string(pool_format)},
        {"adapters", std::to_string(parts_.size())},
        {"sites", pool_json::sites_text(parts_.shapes)},
        {"names",
         nlohmann::json(info.names).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)},
        {"base_model", utf8(info.base_model)},
        {"base_hash", utf8(info.base_hash)},
        {"embedding", utf8(info.embedding)},
        {"matcher", utf8(info.matcher)},
        {"blend", utf8(info.blend)},
        {"tau", pool_json::text_of(info.tau)}};
    pool_json::write_numbers(info, all);
    for (const auto& [key, value] : info.notes) {
      all[std::string(pool_json::note_prefix) + utf8(key)] = utf8(value);
    }
    return all;
  }

  const pool_parts& parts_;
  std::vector<std::uint64_t> sums_;
  std::vector<std::uint64_t> core_sums_;
};

/// Copies tile t of factor f of an adapter, its padding included, to memory of `tile_bytes`.
using tile_source =
    function_ref<void(std::size_t f, std::size_t t, std::size_t slot, std::byte* to)>;

/// Spare slots leave room in the header for the names of the adapters to come.
[[nodiscard]] inline std::size_t header_room(const pool_parts& parts) noexcept {
  return (parts.slots - parts.size()) * 96;
}

/// What `pool_contents::open` would refuse is not written.
[[nodiscard]] inline result<void> check_parts(const std::string& path, const pool_parts& parts) {
  constexpr std::size_t most = std::size_t{1} << 20;
  if (!std::isfinite(parts.info.tau)) {
    return error{errc::bad_value, path + ": tau is " + pool_json::text_of(parts.info.tau)};
  }
  if (parts.slots < parts.size() || parts.slots > most) {
    return error{errc::bad_value, path + ": " + std::to_string(parts.slots) + " slots for " +
                                      std::to_string(parts.size()) + " adapters, at most 2^20"};
  }
  for (const auto& [what, value] :
       {std::pair("layer", parts.info.layer), std::pair("centroids", parts.info.centroids),
        std::pair("top_k", parts.info.top_k)}) {
    if (value <= most) continue;
    return error{errc::bad_value,
                 path + ": " + what + " is " + std::to_string(value) + ", at most 2^20"};
  }
  return {};
}

/// Writes a pool file as a whole or not at all. `sync`: see `io::atomic_file::commit`.
[[nodiscard]] inline result<void> write_pool(const std::string& path, const pool_parts& parts,
                                             tile_source tiles, bool sync = false) {
  CRAYON_CHECK(check_parts(path, parts));
  pool_tensors tensors(parts);
  CRAYON_TRY(std::string prefix, tensors.prefix(path, 0));
  const std::size_t least = prefix.size() + header_room(parts);
  CRAYON_TRY(prefix, tensors.prefix(path, least));
  CRAYON_TRY(io::atomic_file file, io::atomic_file::create(path));
  CRAYON_CHECK(file.write(prefix));  // its checksum is not known yet

  const std::size_t bytes = parts.tile_bytes(), row = parts.slots * bytes;
  std::size_t rows = 1;
  for (std::size_t f = 0; f < 2 * parts.shapes.size(); ++f) rows = std::max(rows, parts.tiles(f));
  rows = std::min(rows, std::max<std::size_t>(1, (std::size_t{1} << 20) / row));
  aligned_vector<std::byte> buffer(rows * row);
  for (std::size_t f = 0; f < 2 * parts.shapes.size(); ++f) {
    std::vector<striped_hasher> sums(parts.slots);
    std::size_t filled = 0;
    for (std::size_t t = 0; t < parts.tiles(f); ++t) {
      for (std::size_t slot = 0; slot < parts.slots; ++slot) {
        std::byte* to = buffer.data() + filled * row + slot * bytes;
        if (slot < parts.size()) {
          tiles(f, t, slot, to);
        } else {
          std::fill_n(to, bytes, std::byte{0});
        }
        sums[slot].add(to, bytes);
        if (const auto e = not_finite(parts.type, to, bytes)) {
          return not_finite_error(path, parts.tensor_name(f), parts.info.names[slot],
                                  t * parts.tile + *e, parts.type, to, *e);
        }
      }
      if (++filled == rows || t + 1 == parts.tiles(f)) {
        CRAYON_CHECK(file.write(std::span<const std::byte>(buffer.data(), filled * row)));
        filled = 0;
      }
    }
    for (std::size_t slot = 0; slot < parts.slots; ++slot) {
      tensors.sum(f, slot) = sums[slot].value();
    }
  }
  for (const auto& t : tensors.tail()) CRAYON_CHECK(file.write(t.bytes));
  CRAYON_TRY(prefix, tensors.prefix(path, least));
  CRAYON_CHECK(file.write_at(0, std::as_bytes(std::span(prefix))));
  return file.commit(sync);
}

}  // namespace crayon::adapter
