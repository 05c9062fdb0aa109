// SPDX-License-Identifier: MIT
// xtensor containers as crayon's views and back, without a copy.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <type_traits>

#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>
#include <crayon/interop/xtensor_compat.hpp>

namespace crayon::interop {

/// A matrix_view (rows, cols) as an xtensor expression over the same memory, rows of any stride.
/// The memory must outlive it.
template <class T>
[[nodiscard]] auto as_xtensor(matrix_view<T> m) {
  const std::array<std::size_t, 2> shape{m.rows, m.cols};
  // xtensor wants stride 0 where an extent is 1.
  const std::array<std::ptrdiff_t, 2> strides{
      m.rows == 1 ? 0 : static_cast<std::ptrdiff_t>(m.stride), m.cols == 1 ? 0 : 1};
  // The size counts elements, not the memory between rows: xtensor compares it with the shape.
  return xt::adapt(static_cast<T*>(m.data), m.size(), xt::no_ownership(), shape, strides);
}

/// A container whose memory can be seen as a matrix: xtensor, xarray, an adaptor, a strided view.
template <class C>
concept dense_container = requires(C& c) {
  c.data();       // the first element of the underlying memory
  c.shape();      // two extents
  c.strides();    // in elements
  c.dimension();  // 2
  std::remove_cvref_t<C>::static_layout;
};

template <class C>
using element_of = std::remove_pointer_t<decltype(std::declval<C&>().data())>;

/// A row-major matrix as a view of the same memory; const containers give const views. Anything
/// that is not two-dimensional with adjacent columns is an error that names its shape. A
/// column-major type does not compile: its transpose is the row-major matrix.
template <dense_container C>
[[nodiscard]] result<matrix_view<element_of<C>>> as_matrix(C& c) {
  static_assert(std::remove_cvref_t<C>::static_layout != xt::layout_type::column_major,
                "crayon's matrices are row-major: pass xt::transpose of a column-major container, "
                "or make the container row_major");
  if (c.dimension() != 2) {
    return error{errc::bad_shape,
                 "an array of " + std::to_string(c.dimension()) + " dimensions, needs 2"};
  }
  const auto rows = static_cast<std::size_t>(c.shape()[0]);
  const auto cols = static_cast<std::size_t>(c.shape()[1]);
  const auto row_stride = static_cast<std::ptrdiff_t>(c.strides()[0]);
  const auto col_stride = static_cast<std::ptrdiff_t>(c.strides()[1]);
  const bool adjacent = cols <= 1 || col_stride == 1;
  const bool forward = rows <= 1 || row_stride >= static_cast<std::ptrdiff_t>(cols);
  if (!adjacent || !forward) {
    return error{errc::bad_shape, "an array (" + std::to_string(rows) + ", " +
                                      std::to_string(cols) + ") with strides (" +
                                      std::to_string(row_stride) + ", " +
                                      std::to_string(col_stride) + "), needs adjacent columns"};
  }
  auto* data = c.data();
  if constexpr (requires { c.data_offset(); }) data += c.data_offset();
  const std::size_t stride = rows <= 1 ? cols : static_cast<std::size_t>(row_stride);
  return matrix_view<element_of<C>>(data, rows, cols, stride);
}

/// The same without a run-time check where the type alone says it: xt::xtensor<T, 2> (row-major).
template <class T, class A>
[[nodiscard]] matrix_view<T> as_matrix(
    xt::xtensor_container<xt::uvector<T, A>, 2, xt::layout_type::row_major>& c) {
  return {c.data(), c.shape()[0], c.shape()[1]};
}
template <class T, class A>
[[nodiscard]] matrix_view<const T> as_matrix(
    const xt::xtensor_container<xt::uvector<T, A>, 2, xt::layout_type::row_major>& c) {
  return {c.data(), c.shape()[0], c.shape()[1]};
}

}  // namespace crayon::interop
