// SPDX-License-Identifier: MIT
#include <crayon/core/aligned.hpp>

#include <cstddef>
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

TEST_CASE("large blocks start on a large page") {
  constexpr std::size_t from = 4 * crayon::huge_page;
  crayon::aligned_vector<char> v(from - 1, 'a');
  CHECK(reinterpret_cast<std::uintptr_t>(v.data()) % crayon::alignment == 0);
  v.resize(from, 'b');  // moves from the one kind of block to the other
  CHECK(reinterpret_cast<std::uintptr_t>(v.data()) % crayon::huge_page == 0);
  CHECK(v.front() == 'a');
  CHECK(v[from - 2] == 'a');
  CHECK(v.back() == 'b');
}
