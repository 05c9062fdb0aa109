// SPDX-License-Identifier: MIT
// A matrix somebody else owns.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include <crayon/core/config.hpp>

namespace crayon {

/// A row-major matrix (rows, cols) in memory that the view does not own. `stride` is the distance
/// between rows in elements and is at least `cols`.
template <class T>
struct matrix_view {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = 0;

  constexpr matrix_view() noexcept = default;
  constexpr matrix_view(T* first, std::size_t row_count, std::size_t col_count) noexcept
      : data(first), rows(row_count), cols(col_count), stride(col_count) {}
  constexpr matrix_view(T* first, std::size_t row_count, std::size_t col_count,
                        std::size_t row_stride) noexcept
      : data(first), rows(row_count), cols(col_count), stride(row_stride) {
    CRAYON_ASSERT(row_stride >= col_count);
  }

  /// A view of mutable elements is a view of constant ones.
  constexpr operator matrix_view<const T>() const noexcept requires(!std::is_const_v<T>) {
    return {data, rows, cols, stride};
  }

  [[nodiscard]] constexpr T* row(std::size_t r) const noexcept { return data + r * stride; }
  [[nodiscard]] constexpr T& operator()(std::size_t r, std::size_t c) const noexcept {
    CRAYON_ASSERT(r < rows && c < cols);
    return data[r * stride + c];
  }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return rows * cols; }
  [[nodiscard]] constexpr bool empty() const noexcept { return rows == 0 || cols == 0; }
  [[nodiscard]] constexpr bool contiguous() const noexcept { return stride == cols; }

  /// Rows [first, first + count).
  [[nodiscard]] constexpr matrix_view rows_from(std::size_t first,
                                                std::size_t count) const noexcept {
    CRAYON_ASSERT(first + count <= rows);
    return {data + first * stride, count, cols, stride};
  }
};

template <class T>
[[nodiscard]] constexpr bool same_shape(matrix_view<T> a, auto b) noexcept {
  return a.rows == b.rows && a.cols == b.cols;
}

}  // namespace crayon
