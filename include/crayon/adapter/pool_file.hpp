// SPDX-License-Identifier: MIT
// A pool as one safetensors file: interleaved factors, index vectors, the rest as metadata.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/cores.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/adapter/pool_contents.hpp>
#include <crayon/adapter/pool_write.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/tensor.hpp>

namespace crayon::adapter {

/// What a pool file has besides the pool.
struct pool_file_options {
  std::size_t spare = 0;                   ///< free slots, see adapter/pool_edit.hpp
  std::span<const site_cores> cores = {};  ///< R factors of these adapters; none: not stored
  std::optional<dtype> stored = {};        ///< what factors are rounded to; nothing: as they are
};

/// The bytes of n elements rounded to a type.
template <element E>
void copy_rounded(const E* from, std::size_t n, dtype type, std::byte* to) noexcept {
  const auto copy = [&]<element S>(S value) {
    for (std::size_t j = 0; j < n; ++j, to += sizeof(S)) {
      value = from_float<S>(to_float(from[j]));
      std::memcpy(to, &value, sizeof(S));
    }
  };
  if (type == dtype_of<E>) {
    std::memcpy(to, from, n * sizeof(E));
  } else if (type == dtype::f32) {
    copy(float{});
  } else if (type == dtype::bf16) {
    copy(bf16{});
  } else {
    copy(f16{});
  }
}

/// Writes the pool as a whole or not at all; the same pool gives the same bytes. Takes a `pool` or
/// a `mapped_pool`; factors that are not finite, or too large for `stored`, are refused.
template <class P>
  requires adapter_pool<P>
[[nodiscard]] result<void> save_pool(const std::string& path, const P& p,
                                     const pool_file_options& options = {}) {
  constexpr dtype own = dtype_of<typename P::element_type>;
  const dtype stored = options.stored.value_or(own);
  if (!options.cores.empty()) {
    CRAYON_CHECK(check_cores(p, options.cores));
    if (stored != own) {
      return error{errc::unsupported, path + ": R factors of " + std::string(name(own)) +
                                          " factors that are stored as " +
                                          std::string(name(stored))};
    }
  }
  const pool_parts parts{
      stored, p.shapes(), p.info(), p.index(), p.tile(), p.size() + options.spare, options.cores};
  return write_pool(path, parts,
                    [&](std::size_t f, std::size_t t, std::size_t slot, std::byte* to) {
                      const auto from = f % 2 == 0 ? p.a(f / 2) : p.b(f / 2);
                      copy_rounded(from.at(t, slot), p.tile(), stored, to);
                    });
}

/// Loads a pool whose factors are stored as E, or as anything where E is f32: copied once, so that
/// the file may go. Every size, every value and all checksums are checked. Spare slots and R
/// factors stay behind.
template <element E>
[[nodiscard]] result<pool<E>> load_pool(const pool_contents& file) {
  const std::string& path = file.path();
  if (file.type() != dtype_of<E> && dtype_of<E> != dtype::f32) {  // widening loses nothing
    return error{errc::mismatch, path + ": factors are " + std::string(name(file.type())) +
                                     ", asked for " + std::string(name(dtype_of<E>))};
  }
  auto loaded = pool<E>::zeros(file.shapes(), file.size(), file.index(), file.info(), file.tile());
  if (!loaded) return error{loaded.error().code, path + ": " + loaded.error().text};
  const std::size_t stored = file.tile() * size_of(file.type());
  for (std::size_t f = 0; f < 2 * loaded->sites(); ++f) {
    if (f % 2 == 0) CRAYON_CHECK(file.check(f / 2));
    const auto to = f % 2 == 0 ? loaded->a(f / 2) : loaded->b(f / 2);
    for (std::size_t t = 0; t < to.tiles(); ++t) {
      const std::byte* from = file.at(f, t, 0);
      if (file.type() == dtype_of<E>) {  // one row of tiles, the spare ones left out
        std::memcpy(to.at(t, 0), from, to.count * stored);
        continue;
      }
      const io::tensor tiles{file.tensor_name(f),
                             std::string(name(file.type())),
                             {to.count, to.tile},
                             {from, to.count * stored}};
      CRAYON_CHECK(io::read_matrix(path, tiles, matrix_view<E>(to.at(t, 0), to.count, to.tile)));
    }
  }
  return loaded;
}
template <element E>
[[nodiscard]] result<pool<E>> load_pool(const std::string& path) {
  CRAYON_TRY(const pool_contents file, pool_contents::open(path));
  return load_pool<E>(file);
}

/// The file's R factors, copied; of no sites if it has none. `pool_contents::check` compares them
/// with their checksums, and `load_pool` has.
[[nodiscard]] inline result<pool_cores> load_cores(const pool_contents& file) {
  if (file.cores().empty()) return pool_cores();
  std::vector<std::size_t> columns;
  for (const auto& site : file.shapes()) columns.push_back(file.size() * site.rank);
  pool_cores cores(columns);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const auto a = file.cores()[2 * i], b = file.cores()[2 * i + 1];
    std::memcpy(cores.r_a(i).data, a.data(), a.size());
    std::memcpy(cores.r_b(i).data, b.data(), b.size());
  }
  return cores;
}

/// The adapters of a file, bit by bit, with its spare slots and R factors, under another index and
/// what goes with it: `index` (N, d), `info` with their names.
[[nodiscard]] inline result<void> save_reindexed(const std::string& path, const pool_contents& from,
                                                 matrix_view<const float> index, pool_info info) {
  CRAYON_CHECK(
      check_pool(from.shapes(), from.size(), index, info, from.tile(), size_of(from.type())));
  CRAYON_CHECK(from.check());
  CRAYON_TRY(const pool_cores cores, load_cores(from));
  const pool_parts parts{from.type(), from.shapes(), info,         index,
                         from.tile(), from.slots(),  cores.sites()};
  return write_pool(path, parts,
                    [&](std::size_t f, std::size_t t, std::size_t slot, std::byte* to) {
                      std::memcpy(to, from.at(f, t, slot), parts.tile_bytes());
                    });
}

}  // namespace crayon::adapter
