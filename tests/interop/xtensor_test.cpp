// SPDX-License-Identifier: MIT
#include <crayon/interop/xtensor.hpp>

#include <cstddef>
#include <type_traits>
#include <vector>

#include <crayon/core/element.hpp>

#include "../catch.hpp"

#if __has_include(<xtensor/views/xview.hpp>)
#include <xtensor/core/xmath.hpp>
#include <xtensor/views/xview.hpp>
#else
#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>
#endif

using namespace crayon;

TEST_CASE("a matrix view is an xtensor expression over the same memory") {
  std::vector<float> memory(12);
  for (std::size_t i = 0; i < 12; ++i) memory[i] = static_cast<float>(i);
  for (const std::size_t stride : {3U, 4U}) {
    const matrix_view<float> m(memory.data(), 3, 3, stride);
    auto x = interop::as_xtensor(m);
    REQUIRE(x.dimension() == 2);
    CHECK(x.shape()[0] == 3);
    CHECK(x.shape()[1] == 3);
    for (std::size_t r = 0; r < 3; ++r) {
      for (std::size_t c = 0; c < 3; ++c) CHECK(&x(r, c) == &m(r, c));
    }
    const float expected = m(0, 1) + m(1, 1) + m(2, 1);
    CHECK(xt::sum(xt::view(x, xt::all(), 1))() == expected);
  }
  auto x = interop::as_xtensor(matrix_view<float>(memory.data(), 2, 6));
  x(1, 5) = -1;
  CHECK(memory[11] == -1);
  x *= 2;
  CHECK(memory[1] == 2);
}

TEST_CASE("rows, columns and empty matrices have views too") {
  std::vector<float> memory{1, 2, 3};
  const auto row = interop::as_xtensor(matrix_view<const float>(memory.data(), 1, 3));
  CHECK(row(0, 2) == 3);
  CHECK(xt::sum(row)() == 6);
  const auto column = interop::as_xtensor(matrix_view<const float>(memory.data(), 3, 1));
  CHECK(column(2, 0) == 3);
  CHECK(xt::sum(column)() == 6);
  const auto none = interop::as_xtensor(matrix_view<const float>(memory.data(), 0, 3));
  CHECK(none.size() == 0);
}

TEST_CASE("storage elements are viewed as they are") {
  std::vector<bf16> memory(6, from_float<bf16>(1.5F));
  const auto x = interop::as_xtensor(matrix_view<const bf16>(memory.data(), 2, 3));
  CHECK(&x(1, 2) == &memory[5]);
}

TEST_CASE("an xtensor is a matrix view of the same memory") {
  xt::xtensor<float, 2> x({2, 3});
  x(1, 2) = 5;
  const matrix_view<float> m = interop::as_matrix(x);
  CHECK(m.data == x.data());
  CHECK(m.rows == 2);
  CHECK(m.cols == 3);
  CHECK(&m(1, 2) == &x(1, 2));
  const auto& constant = x;
  const auto c = interop::as_matrix(constant);
  static_assert(std::is_same_v<decltype(c), const matrix_view<const float>>);
  CHECK(c.data == x.data());
}

TEST_CASE("an xarray is a matrix view if it has two dimensions") {
  xt::xarray<float> x = xt::zeros<float>({4, 5});
  const auto m = interop::as_matrix(x);
  REQUIRE(m);
  CHECK(m->data == x.data());
  CHECK(m->stride == 5);
  CHECK(&(*m)(3, 4) == &x(3, 4));
  const xt::xarray<float> cube = xt::zeros<float>({2, 2, 2});
  const auto bad = interop::as_matrix(cube);
  REQUIRE(!bad);
  CHECK(bad.error().text == "an array of 3 dimensions, needs 2");
}

TEST_CASE("a view of some rows and columns keeps the stride of its matrix") {
  xt::xtensor<float, 2> x = xt::zeros<float>({6, 8});
  auto part = xt::view(x, xt::range(2, 5), xt::range(1, 4));
  const auto m = interop::as_matrix(part);
  REQUIRE(m);
  CHECK(m->rows == 3);
  CHECK(m->cols == 3);
  CHECK(m->stride == 8);
  CHECK(&(*m)(0, 0) == &x(2, 1));
  CHECK(&(*m)(2, 2) == &x(4, 3));
}

TEST_CASE("there and back again is the same memory") {
  std::vector<float> memory(20);
  const matrix_view<float> m(memory.data(), 4, 3, 5);
  auto x = interop::as_xtensor(m);
  const auto back = interop::as_matrix(x);
  REQUIRE(back);
  CHECK(back->data == m.data);
  CHECK(back->stride == m.stride);
}

TEST_CASE("columns that are not adjacent are an error with the strides") {
  xt::xarray<float, xt::layout_type::dynamic> x(std::vector<std::size_t>{3, 4},
                                                xt::layout_type::column_major);
  const auto m = interop::as_matrix(x);
  REQUIRE(!m);
  CHECK(m.error().text == "an array (3, 4) with strides (1, 3), needs adjacent columns");
}
