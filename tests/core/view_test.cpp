// SPDX-License-Identifier: MIT
#include <crayon/core/view.hpp>

#include <array>
#include <type_traits>

#include "../catch.hpp"

using crayon::matrix_view;

TEST_CASE("a view reads and writes row-major memory") {
  std::array<float, 6> memory{0, 1, 2, 3, 4, 5};
  const matrix_view<float> m(memory.data(), 2, 3);
  CHECK(m(0, 2) == 2);
  CHECK(m(1, 0) == 3);
  CHECK(m.row(1) == memory.data() + 3);
  CHECK(m.size() == 6);
  CHECK(m.contiguous());
  m(1, 1) = 9;
  CHECK(memory[4] == 9);
  CHECK(matrix_view<float>{}.empty());
}

TEST_CASE("a view of columns skips the others") {
  std::array<float, 12> memory{};
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i);
  const matrix_view<float> columns(memory.data() + 1, 3, 2, 4);
  CHECK_FALSE(columns.contiguous());
  CHECK(columns(2, 1) == 10);
  const auto rows = columns.rows_from(1, 2);
  CHECK(rows.rows == 2);
  CHECK(rows(0, 0) == 5);
  CHECK(rows(1, 1) == 10);
}

TEST_CASE("a view of mutable elements is one of constant ones, never the other way round") {
  static_assert(std::is_convertible_v<matrix_view<float>, matrix_view<const float>>);
  static_assert(!std::is_convertible_v<matrix_view<const float>, matrix_view<float>>);
  std::array<float, 2> memory{1, 2};
  const matrix_view<const float> m = matrix_view<float>(memory.data(), 1, 2);
  CHECK(m(0, 1) == 2);
}
