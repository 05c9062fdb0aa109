// SPDX-License-Identifier: MIT
// Adapters into and out of a pool file, the others' bits untouched.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/cores.hpp>
#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool_contents.hpp>
#include <crayon/adapter/pool_write.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/file_copy.hpp>

// Every edit is written beside the file and then takes its name: a reader sees the old pool or the
// new one, whoever has the old one open keeps it, and after an error it is as it was. Of two edits
// at once the last one wins.
//
// An edit that finds a slot (`replace_adapter`, `add_adapter` with a spare slot, `store_cores`)
// writes that adapter's tiles only: the rest is shared with the old file where the file system can
// (io/file_copy.hpp; blocks with a changed tile are not, so tiles of whole pages share most), else
// copied by the kernel. `remove_adapter`, and `add_adapter` without a spare slot, move every
// adapter's tiles and so write a new file, a row of tiles at a time, after comparing the old one
// with its checksums.
//
// R factors are those of all adapters together: an edit drops them. `store_cores` adds new ones.

namespace crayon::adapter {

/// An adapter on its way into a pool file.
template <element E>
struct pool_entry {
  const lora_adapter<E>& adapter;     ///< the pool's sites, ranks, scales and element type
  std::string name;                   ///< no other adapter's there
  std::span<const float> index = {};  ///< (d), unit length; empty if the pool has none
  std::string base_hash = {};         ///< of its base model; empty: not known, taken on trust
};

struct pool_edit_options {
  std::size_t spare = 0;  ///< free slots of a file that has to be written anew
  bool sync = true;       ///< wait until the bytes are on the medium before the name changes
};

namespace pool_edit {

/// A pool's next content: of each adapter the slot it has now, or nothing for the new one.
struct plan {
  pool_info info;
  aligned_vector<float> index;
  std::vector<std::optional<std::size_t>> from;
  std::span<const site_cores> cores = {};
};

[[nodiscard]] inline plan plan_of(const pool_contents& file) {
  plan next{file.info(), {}, {}, {}};
  next.index.assign(file.index().data, file.index().data + file.index().size());
  for (std::size_t k = 0; k < file.size(); ++k) next.from.emplace_back(k);
  return next;
}

/// The slot of the adapter of that name.
[[nodiscard]] inline result<std::size_t> find(const pool_contents& file, const std::string& name) {
  const auto& names = file.info().names;
  const auto at = std::find(names.begin(), names.end(), name);
  if (at == names.end()) {
    return error{errc::not_found, file.path() + ": no adapter " + name + " in this pool of " +
                                      std::to_string(names.size())};
  }
  if (std::find(at + 1, names.end(), name) != names.end()) {
    return error{errc::bad_value, file.path() + ": two adapters are called " + name};
  }
  return static_cast<std::size_t>(at - names.begin());
}

template <element E>
[[nodiscard]] result<void> check_entry(const pool_contents& file, const pool_entry<E>& entry,
                                       bool needs_index) {
  const auto refuse = [&](errc code, const std::string& text) {
    return error{code, file.path() + ": " + text};
  };
  if (file.type() != dtype_of<E>) {
    return refuse(errc::mismatch, "factors are " + std::string(name(file.type())) + ", those of " +
                                      entry.name + " are " + std::string(name(dtype_of<E>)));
  }
  const std::string& hash = file.info().base_hash;
  if (!hash.empty() && !entry.base_hash.empty() && hash != entry.base_hash) {
    return refuse(errc::mismatch, entry.name + " was made for the base model " + entry.base_hash +
                                      ", the pool for " + hash);
  }
  if (auto fits = check_shapes(entry.name, entry.adapter, file.shapes()); !fits) {
    return refuse(fits.error().code, fits.error().text);
  }
  const std::size_t d = file.index().cols;
  if (entry.index.empty() && !needs_index) return {};
  if (entry.index.size() != d) {
    return refuse(errc::bad_shape, "the index vector of " + entry.name + " has length " +
                                       std::to_string(entry.index.size()) + ", the pool's have " +
                                       std::to_string(d));
  }
  if (d == 0) return {};
  auto unit = check_index(entry.name, entry.index);
  return unit ? result<void>() : refuse(unit.error().code, unit.error().text);
}

/// Tiles of an adapter whose sites may be in another order than the pool's.
template <element E>
class adapter_tiles {
 public:
  adapter_tiles(const lora_adapter<E>& adapter, const pool_contents& file) : tile_(file.tile()) {
    for (const auto& s : file.shapes()) {
      const auto factors = adapter.factors(*adapter.find(s.module));
      factors_.push_back(factors.a);
      factors_.push_back(factors.b);
    }
  }
  void operator()(std::size_t f, std::size_t t, std::size_t, std::byte* to) const {
    const auto m = factors_[f];
    const std::size_t n = std::min(tile_, m.size() - t * tile_);
    std::memcpy(to, m.data + t * tile_, n * sizeof(E));
    std::fill_n(to + n * sizeof(E), (tile_ - n) * sizeof(E), std::byte{0});
  }

 private:
  std::size_t tile_;
  std::vector<matrix_view<const E>> factors_;
};

inline constexpr auto no_tiles = [](std::size_t, std::size_t, std::size_t, std::byte*) {};

/// The factors stay where they are in the file: writes the tiles of the new adapter, if there is
/// one, and all that is not factors.
[[nodiscard]] inline result<void> write_in_place(const pool_contents& file, const pool_parts& parts,
                                                 const plan& next, pool_tensors& tensors,
                                                 const std::string& prefix, tile_source tiles,
                                                 bool sync) {
  const std::string& path = file.path();
  CRAYON_TRY(io::atomic_file to, io::atomic_file::create(path));
  CRAYON_CHECK(io::copy_contents(path, to));
  std::vector<std::byte> header(prefix.size());  // it has the checksum over everything
  if (::pread(to.number(), header.data(), header.size(), 0) !=
          static_cast<::ssize_t>(header.size()) ||
      !std::equal(header.begin(), header.end(), file.bytes().begin())) {
    return error{errc::io_failed, "cannot write " + path + ": it was changed meanwhile"};
  }
  std::vector<std::byte> tile(parts.tile_bytes());
  for (std::size_t f = 0; f < 2 * parts.shapes.size(); ++f) {
    for (std::size_t slot = 0; slot < parts.slots; ++slot) {
      tensors.sum(f, slot) = file.sums(f)[slot];
      if (slot >= next.from.size() || next.from[slot]) continue;
      striped_hasher sum;
      for (std::size_t t = 0; t < parts.tiles(f); ++t) {
        tiles(f, t, slot, tile.data());
        sum.add(tile.data(), tile.size());
        if (const auto e = not_finite(parts.type, tile.data(), tile.size())) {
          return not_finite_error(path, parts.tensor_name(f), parts.info.names[slot],
                                  t * parts.tile + *e, parts.type, tile.data(), *e);
        }
        const auto at = static_cast<std::size_t>(file.at(f, t, slot) - file.bytes().data());
        CRAYON_CHECK(to.write_at(at, tile));
      }
      tensors.sum(f, slot) = sum.value();
    }
  }
  std::size_t end = prefix.size() + parts.tail();
  for (const auto& t : tensors.tail()) {
    CRAYON_CHECK(to.write_at(end, t.bytes));
    end += t.bytes.size();
  }
  if (::ftruncate(to.number(), static_cast<::off_t>(end)) != 0) {
    return io::file_error("write", path, errno);
  }
  CRAYON_TRY(const std::string last, tensors.prefix(path, prefix.size()));
  CRAYON_CHECK(to.write_at(0, std::as_bytes(std::span(last))));
  return to.commit(sync);
}

/// `added` copies tiles of the new adapter, wherever its slot is.
[[nodiscard]] inline result<void> write(const pool_contents& file, plan& next, bool may_stay,
                                        tile_source added, const pool_edit_options& options) {
  const std::size_t n = next.from.size(), d = next.index.size() / n;
  const matrix_view<const float> index(next.index.data(), n, d);
  if (auto good = check_pool(file.shapes(), n, index, next.info, file.tile(), size_of(file.type()));
      !good) {
    return error{good.error().code, file.path() + ": " + good.error().text};
  }
  pool_parts parts{file.type(), file.shapes(), next.info, index,
                   file.tile(), file.slots(),  next.cores};
  if (may_stay && n <= file.slots() && !file.sums(0).empty()) {
    // The factors must lie where this writer would put them behind a header of the same length.
    const auto first = static_cast<std::size_t>(file.factor(0).data() - file.bytes().data());
    pool_tensors tensors(parts);
    CRAYON_TRY(const std::string prefix, tensors.prefix(file.path(), first));
    bool same = prefix.size() == first;
    std::size_t at = first;
    for (std::size_t f = 0; f < 2 * parts.shapes.size(); ++f) {
      same &= file.factor(f).data() == file.bytes().data() + at;
      at += parts.factor_bytes(f);
    }
    if (same) return write_in_place(file, parts, next, tensors, prefix, added, options.sync);
  }
  CRAYON_CHECK(file.check());
  parts.slots = std::max(n + options.spare, may_stay ? file.slots() : 0);
  const auto tiles = [&](std::size_t f, std::size_t t, std::size_t slot, std::byte* to) {
    if (next.from[slot]) {
      std::memcpy(to, file.at(f, t, *next.from[slot]), parts.tile_bytes());
    } else {
      added(f, t, slot, to);
    }
  };
  return write_pool(file.path(), parts, tiles, options.sync);
}

}  // namespace pool_edit

/// The adapter becomes the last one of the pool.
template <element E>
[[nodiscard]] result<void> add_adapter(const std::string& path, const pool_entry<E>& entry,
                                       const pool_edit_options& options = {}) {
  CRAYON_TRY(const pool_contents file, pool_contents::open(path));
  CRAYON_CHECK(pool_edit::check_entry(file, entry, true));
  const auto& names = file.info().names;
  if (std::find(names.begin(), names.end(), entry.name) != names.end()) {
    return error{errc::bad_value, path + ": has an adapter " + entry.name + " already"};
  }
  auto next = pool_edit::plan_of(file);
  next.info.names.push_back(entry.name);
  next.index.insert(next.index.end(), entry.index.begin(), entry.index.end());
  next.from.emplace_back(std::nullopt);
  return pool_edit::write(file, next, true, pool_edit::adapter_tiles(entry.adapter, file), options);
}

/// The adapter of that name becomes another one, in its slot; without an index vector it keeps its
/// own.
template <element E>
[[nodiscard]] result<void> replace_adapter(const std::string& path, const pool_entry<E>& entry,
                                           const pool_edit_options& options = {}) {
  CRAYON_TRY(const pool_contents file, pool_contents::open(path));
  CRAYON_TRY(const std::size_t slot, pool_edit::find(file, entry.name));
  CRAYON_CHECK(pool_edit::check_entry(file, entry, false));
  auto next = pool_edit::plan_of(file);
  std::copy(entry.index.begin(), entry.index.end(), next.index.data() + slot * file.index().cols);
  next.from[slot].reset();
  return pool_edit::write(file, next, true, pool_edit::adapter_tiles(entry.adapter, file), options);
}

/// The others keep their order. The last adapter of a pool cannot go.
[[nodiscard]] inline result<void> remove_adapter(const std::string& path, const std::string& name,
                                                 const pool_edit_options& options = {}) {
  CRAYON_TRY(const pool_contents file, pool_contents::open(path));
  CRAYON_TRY(const std::size_t slot, pool_edit::find(file, name));
  if (file.size() == 1) {
    return error{errc::bad_value, path + ": " + name + " is the pool's only adapter"};
  }
  auto next = pool_edit::plan_of(file);
  const auto at = static_cast<std::ptrdiff_t>(slot);
  const auto d = static_cast<std::ptrdiff_t>(file.index().cols);
  next.info.names.erase(next.info.names.begin() + at);
  next.index.erase(next.index.begin() + at * d, next.index.begin() + (at + 1) * d);
  next.from.erase(next.from.begin() + at);
  return pool_edit::write(file, next, false, pool_edit::no_tiles, options);
}

/// Stores R factors, computed from the file while it had that checksum; none: its own leave it.
[[nodiscard]] inline result<void> store_cores(const std::string& path,
                                              std::span<const site_cores> cores,
                                              const std::string& made_from,
                                              const pool_edit_options& options = {}) {
  CRAYON_TRY(const pool_contents file, pool_contents::open(path));
  if (!cores.empty() && file.checksum() != made_from) {
    return error{errc::mismatch, path + ": has the checksum " + file.checksum() +
                                     ", its R factors are of " + made_from};
  }
  struct {
    const pool_contents& pool;
    std::size_t size() const { return pool.size(); }
    std::size_t sites() const { return pool.shapes().size(); }
    std::size_t rank(std::size_t, std::size_t site) const { return pool.shapes()[site].rank; }
    std::string_view module(std::size_t site) const { return pool.shapes()[site].module; }
  } const adapters{file};
  if (auto fit = check_cores(adapters, cores); !cores.empty() && !fit) {
    return error{fit.error().code, path + ": " + fit.error().text};
  }
  auto next = pool_edit::plan_of(file);
  next.cores = cores;
  return pool_edit::write(file, next, true, pool_edit::no_tiles, options);
}

}  // namespace crayon::adapter
