// SPDX-License-Identifier: MIT
// One factor of all adapters of a pool, tile by tile.
#pragma once

#include <algorithm>
#include <cstddef>

#include <crayon/core/config.hpp>
#include <crayon/core/view.hpp>

namespace crayon::adapter {

/// One factor of all adapters: [tiles, count, tile] in memory, the elements of each adapter's
/// factor in row-major order, tile after tile, the last tile padded with zeros.
template <class T>
struct interleaved_view {
  T* data = nullptr;
  std::size_t elements = 0;  ///< of one adapter's factor
  std::size_t count = 0;     ///< slots: one per adapter, and spare ones of a pool file
  std::size_t tile = 0;      ///< elements

  [[nodiscard]] std::size_t tiles() const noexcept { return (elements + tile - 1) / tile; }
  /// Elements of all tiles of all slots, padding included.
  [[nodiscard]] std::size_t size() const noexcept { return tiles() * count * tile; }
  /// Tile t of one adapter.
  [[nodiscard]] T* at(std::size_t t, std::size_t slot) const noexcept {
    return data + (t * count + slot) * tile;
  }
  /// Elements of tile t that are not padding.
  [[nodiscard]] std::size_t length(std::size_t t) const noexcept {
    return std::min(tile, elements - t * tile);
  }
};

/// Copies one adapter's factor out, into rows of any stride.
template <class T, class E>
void copy_factor(interleaved_view<T> from, std::size_t slot, matrix_view<E> to) noexcept {
  CRAYON_ASSERT(slot < from.count && from.elements == to.size());
  std::size_t done = 0;
  while (done < from.elements) {
    const std::size_t in_tile = done % from.tile, column = done % to.cols;
    const std::size_t n = std::min(from.tile - in_tile, to.cols - column);
    const T* first = from.at(done / from.tile, slot) + in_tile;
    std::copy(first, first + n, to.row(done / to.cols) + column);
    done += n;
  }
}

}  // namespace crayon::adapter
