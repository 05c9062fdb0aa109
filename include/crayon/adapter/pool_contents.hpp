// SPDX-License-Identifier: MIT
// A pool file, mapped: everything read and checked but the factors, whose bytes stay in the file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/interleaved_view.hpp>
#include <crayon/adapter/pool_checksum.hpp>
#include <crayon/adapter/pool_info.hpp>
#include <crayon/adapter/pool_json.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/safetensors.hpp>

namespace crayon::adapter {

/// `open` reads the header, the index vectors and the checksums: time and memory do not depend on
/// the factors. A truncated file, and one whose header, index vectors or checksums were altered, is
/// refused there. The bytes of factors and R factors are compared with their checksums by `check`,
/// one site at a time. (A file of format 1 is read as a whole by `open`.)
///
/// The checksums find accidents, not somebody who wants to deceive: they have no key.
class pool_contents {
 public:
  [[nodiscard]] static result<pool_contents> open(const std::string& path);

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  [[nodiscard]] dtype type() const noexcept { return type_; }
  [[nodiscard]] const std::vector<site_shape>& shapes() const noexcept { return shapes_; }
  [[nodiscard]] const pool_info& info() const noexcept { return info_; }
  /// Number of adapters.
  [[nodiscard]] std::size_t size() const noexcept { return info_.names.size(); }
  /// Adapters and spare slots; the adapters come first.
  [[nodiscard]] std::size_t slots() const noexcept { return slots_; }
  /// Elements.
  [[nodiscard]] std::size_t tile() const noexcept { return tile_; }
  /// (N, d)
  [[nodiscard]] matrix_view<const float> index() const noexcept {
    return {index_.data(), size(), index_.size() / size()};
  }

  /// Factor 2 i is A of site i, factor 2 i + 1 its B. [tiles, slots, tile], in the file.
  [[nodiscard]] std::span<const std::byte> factor(std::size_t f) const noexcept {
    return factors_[f];
  }
  /// Elements of one adapter's factor.
  [[nodiscard]] std::size_t elements(std::size_t f) const noexcept {
    const auto& s = shapes_[f / 2];
    return s.rank * (f % 2 == 0 ? s.in : s.out);
  }
  /// "<module>.lora_A"
  [[nodiscard]] std::string tensor_name(std::size_t f) const {
    return pool_json::key(shapes_[f / 2], f % 2 == 0 ? 'A' : 'B');
  }
  /// Tile t of one slot.
  [[nodiscard]] const std::byte* at(std::size_t f, std::size_t t, std::size_t slot) const noexcept {
    return factors_[f].data() + (t * slots_ + slot) * tile_ * size_of(type_);
  }
  /// R_A (2 i) and R_B (2 i + 1) of every site, F32 (K, K); empty if the file has none.
  [[nodiscard]] std::span<const std::span<const std::byte>> cores() const noexcept {
    return cores_;
  }
  /// Of the whole content, as the file states it: another one, another pool.
  [[nodiscard]] std::string checksum() const { return text("checksum"); }
  /// The whole file, in which the factors lie.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return file_.bytes(); }

  /// One checksum per slot of a factor; none in format 1.
  [[nodiscard]] std::span<const std::uint64_t> sums(std::size_t f) const noexcept {
    return sums_.empty() ? std::span<const std::uint64_t>()
                         : std::span(sums_).subspan(f * slots_, slots_);
  }

  /// Reads all bytes of one site: they have their checksums, and every element is finite.
  [[nodiscard]] result<void> check(std::size_t site) const;
  /// The same of all sites.
  [[nodiscard]] result<void> check() const {
    for (std::size_t i = 0; i < shapes_.size(); ++i) CRAYON_CHECK(check(i));
    return {};
  }

  [[nodiscard]] std::string who(std::size_t slot) const {
    return slot < size() ? info_.names[slot] : "spare slot " + std::to_string(slot);
  }

 private:
  [[nodiscard]] error bad(const std::string& text) const {
    return {errc::bad_format, path() + ": " + text};
  }
  [[nodiscard]] std::string text(const std::string& key) const {
    const auto at = file_.metadata().find(key);
    return at == file_.metadata().end() ? std::string() : at->second;
  }
  [[nodiscard]] result<void> read_metadata();
  [[nodiscard]] result<void> read_tensors(bool first_format);
  [[nodiscard]] result<aligned_vector<float>> vectors(const char* key, std::size_t rows) const;
  [[nodiscard]] result<std::vector<std::uint64_t>> words(const char* key, std::size_t rows,
                                                         std::size_t cols) const;
  [[nodiscard]] result<std::span<const std::byte>> tensor(const std::string& key,
                                                          std::string_view type,
                                                          const std::vector<std::size_t>& shape,
                                                          const std::string& what = "") const;
  io::safetensors file_;
  dtype type_ = dtype::f32;
  std::vector<site_shape> shapes_;
  pool_info info_;
  aligned_vector<float> index_;
  std::size_t slots_ = 0, tile_ = 0;
  std::vector<std::span<const std::byte>> factors_;  // 2 sites
  std::vector<std::span<const std::byte>> cores_;    // 2 sites, or none
  std::vector<std::uint64_t> sums_;                  // (2 sites, slots), or none
  std::vector<std::uint64_t> core_sums_;             // (sites, 2), or none
};

inline result<pool_contents> pool_contents::open(const std::string& path) {
  pool_contents c;
  CRAYON_TRY(c.file_, io::safetensors::open(path));
  CRAYON_TRY(c.type_, pool_dtype(c.file_));
  const bool first_format = c.text("format") == pool_format_1;
  const std::string sum = pool_json::checksum(c.file_.tensors(), c.file_.metadata(), first_format);
  if (sum != c.text("checksum")) {
    return c.bad("checksum is " + c.text("checksum") + ", the content has " + sum);
  }
  CRAYON_CHECK(c.read_metadata());
  CRAYON_CHECK(c.read_tensors(first_format));
  if (auto good = check_pool(c.shapes_, c.size(), c.index(), c.info_, c.tile_, size_of(c.type_));
      !good) {
    return error{good.error().code, path + ": " + good.error().text};
  }
  return c;
}

inline result<void> pool_contents::read_metadata() {
  auto shapes = pool_json::sites_of(text("sites"));
  auto names = pool_json::names_of(text("names"));
  const auto tau = pool_json::float_of(text("tau"));
  if (!shapes) return bad("metadata \"sites\" is not a list of sites");
  if (!names || std::to_string(names->size()) != text("adapters")) {
    return bad("metadata \"names\" is not a list of " + text("adapters") + " names");
  }
  if (!tau) return bad("metadata \"tau\" is " + text("tau") + ", needs a number");
  if (names->empty() || shapes->empty()) {
    return bad("a pool of " + std::to_string(names->size()) + " adapters with " +
               std::to_string(shapes->size()) + " sites");
  }
  shapes_ = *std::move(shapes);
  info_ = {text("base_model"),
           text("base_hash"),
           text("embedding"),
           text("matcher"),
           text("blend"),
           *tau,
           *std::move(names),
           {},
           {},
           {}};
  if (!pool_json::read_numbers(file_.metadata(), info_)) {
    return bad("metadata \"layer\", \"centroids\" or \"top_k\" is not a number of at most 2^20");
  }
  for (const auto& [key, value] : file_.metadata()) {
    if (key.starts_with(pool_json::note_prefix)) {
      info_.notes[key.substr(pool_json::note_prefix.size())] = value;
    }
  }
  return {};
}

inline result<aligned_vector<float>> pool_contents::vectors(const char* key,
                                                            std::size_t rows) const {
  const auto* t = file_.find(key);
  if (t == nullptr) return bad("tensor " + std::string(key) + " is missing");
  aligned_vector<float> values(t->bytes.size() / sizeof(float));  // bounded by the file
  CRAYON_CHECK(io::read_matrix(
      file_, key,
      matrix_view<float>(values.data(), rows, values.size() / std::max<std::size_t>(rows, 1))));
  return values;
}

/// Words of a tensor U64 (rows, cols), or of one dimension where `rows` is 1.
inline result<std::vector<std::uint64_t>> pool_contents::words(const char* key, std::size_t rows,
                                                               std::size_t cols) const {
  CRAYON_TRY(const auto bytes, tensor(key, "U64", {rows, cols}));
  std::vector<std::uint64_t> values(rows * cols);
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

inline result<std::span<const std::byte>> pool_contents::tensor(
    const std::string& key, std::string_view type, const std::vector<std::size_t>& shape,
    const std::string& what) const {
  const auto* t = file_.find(key);
  if (t == nullptr) return bad("tensor " + key + " is missing");
  if (t->dtype != type) {
    return error{errc::bad_format,
                 path() + ": tensor " + key + " is " + t->dtype + ", needs " + std::string(type)};
  }
  if (t->shape != shape) {
    return error{errc::bad_shape, path() + ": tensor " + key + " has shape " +
                                      io::shape_text(t->shape) + ", " + what + "needs " +
                                      io::shape_text(shape)};
  }
  return t->bytes;
}

inline result<void> pool_contents::read_tensors(bool first_format) {
  const auto* first = file_.find(pool_json::key(shapes_[0], 'A'));
  if (first != nullptr && first->shape.size() == 3) {
    slots_ = first_format ? size() : first->shape[1];
    tile_ = first->shape[2];
  }
  if (slots_ < size() && first != nullptr) {
    return bad("has " + std::to_string(slots_) + " slots for " + std::to_string(size()) +
               " adapters");
  }
  // The tensors, whose sizes are bounded by the file, vouch for the sites before memory is taken.
  for (const auto& s : shapes_) {
    for (const auto& [side, factor] : {std::pair(s.in, 'A'), std::pair(s.out, 'B')}) {
      const bool too_large = side != 0 && s.rank > (~std::size_t{0} >> 8) / side;
      const std::size_t n = s.rank * side;
      const std::size_t tiles = tile_ == 0 || too_large ? 0 : n / tile_ + (n % tile_ != 0);
      CRAYON_TRY(
          const auto bytes,
          tensor(pool_json::key(s, factor), name(type_), {tiles, slots_, tile_},
                 "a factor of " + std::to_string(s.rank) + " x " + std::to_string(side) + " "));
      factors_.push_back(bytes);
    }
  }
  CRAYON_TRY(index_, vectors("index", size()));
  CRAYON_TRY(const auto centre, vectors("centre", 1));
  info_.centre.assign(centre.begin(), centre.end());
  std::size_t needed = factors_.size() + 2;
  if (file_.find("projection") != nullptr) {
    CRAYON_TRY(const auto projection,
               vectors("projection", index_.size() / size() / info_.centroids));
    info_.projection.assign(projection.begin(), projection.end());
    ++needed;
  }
  if (!first_format) {
    CRAYON_TRY(sums_, words("checksums", factors_.size(), slots_));
    ++needed;
  }
  if (file_.find("core_checksums") != nullptr && !first_format) {
    CRAYON_TRY(core_sums_, words("core_checksums", shapes_.size(), 2));
    for (const auto& s : shapes_) {
      const std::size_t k = s.rank * size();
      for (const char factor : {'A', 'B'}) {
        CRAYON_TRY(const auto bytes, tensor(pool_json::core_key(s, factor), "F32", {k, k},
                                            "ranks that sum to " + std::to_string(k) + " "));
        cores_.push_back(bytes);
      }
    }
    needed += 1 + cores_.size();
  }
  if (file_.tensors().size() != needed) {
    return bad("has " + std::to_string(file_.tensors().size()) + " tensors, needs " +
               std::to_string(needed));
  }
  return {};
}

inline result<void> pool_contents::check(std::size_t site) const {
  const std::size_t bytes = tile_ * size_of(type_);
  for (const std::size_t f : {2 * site, 2 * site + 1}) {
    const auto wrong = [&](std::size_t slot, std::uint64_t sum) {
      return bad("checksum of " + tensor_name(f) + " of " + who(slot) + " is " +
                 hex(sums(f)[slot]) + ", the content has " + hex(sum));
    };
    std::vector<striped_hasher> found(slots_);
    const std::size_t tiles = factors_[f].size() / (slots_ * bytes);
    for (std::size_t t = 0; t < tiles; ++t) {
      for (std::size_t slot = 0; slot < slots_; ++slot) {
        if (!sums_.empty()) found[slot].add(at(f, t, slot), bytes);
        if (const auto e = not_finite(type_, at(f, t, slot), bytes)) {
          return not_finite_error(path(), tensor_name(f), who(slot), t * tile_ + *e, type_,
                                  at(f, t, slot), *e);
        }
      }
    }
    for (std::size_t slot = 0; slot < slots_ && !sums_.empty(); ++slot) {
      if (found[slot].value() != sums(f)[slot]) return wrong(slot, found[slot].value());
    }
    if (cores_.empty()) continue;
    if (const auto sum = core_sum(cores_[f]); sum != core_sums_[f]) {
      return bad("checksum of " + pool_json::core_key(shapes_[site], f % 2 == 0 ? 'A' : 'B') +
                 " is " + hex(core_sums_[f]) + ", the content has " + hex(sum));
    }
  }
  return {};
}

}  // namespace crayon::adapter
