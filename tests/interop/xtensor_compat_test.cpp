// SPDX-License-Identifier: MIT
#include <crayon/interop/xtensor_compat.hpp>

#include <array>
#include <cstddef>
#include <vector>

#include "../catch.hpp"

TEST_CASE("the containers and adaptors that interop is made of, whatever the version") {
  std::vector<float> memory{0, 1, 2, 9, 3, 4, 5, 9};
  const std::array<std::size_t, 2> shape{2, 3};
  const std::array<std::ptrdiff_t, 2> strides{4, 1};
  auto adapted = xt::adapt(memory.data(), 6, xt::no_ownership(), shape, strides);
  CHECK(adapted(1, 0) == 3);
  adapted(1, 2) = 7;
  CHECK(memory[6] == 7);
  const xt::xarray<float> any = adapted;  // an expression fills both kinds of container
  const xt::xtensor<float, 2> fixed = adapted + 1;
  CHECK(any(1, 2) == 7);
  CHECK(fixed(0, 2) == 3);
  CHECK(xt::xarray<float>::static_layout == xt::layout_type::row_major);
}
