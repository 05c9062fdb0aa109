// SPDX-License-Identifier: MIT
#include <crayon/core/aligned.hpp>

#include <cstdint>

#include "../catch.hpp"

TEST_CASE("memory starts on a cache line, whatever its size") {
  for (const std::size_t n : {1U, 3U, 17U, 1000U, 100000U}) {
    crayon::aligned_vector<float> v(n);
    CHECK(reinterpret_cast<std::uintptr_t>(v.data()) % crayon::alignment == 0);
    v.resize(2 * n);
    CHECK(reinterpret_cast<std::uintptr_t>(v.data()) % crayon::alignment == 0);
  }
}
