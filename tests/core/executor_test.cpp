// SPDX-License-Identifier: MIT
#include <crayon/core/executor.hpp>

#include <vector>

#include <crayon/concepts.hpp>

#include "../catch.hpp"

static_assert(crayon::executor<crayon::serial_executor>);

TEST_CASE("the serial executor calls every task once, in order") {
  std::vector<std::size_t> seen;
  crayon::serial_executor{}.parallel_for(5, [&](std::size_t i) { seen.push_back(i); });
  CHECK(seen == std::vector<std::size_t>{0, 1, 2, 3, 4});
  crayon::serial_executor{}.parallel_for(0, [&](std::size_t) { seen.clear(); });
  CHECK(seen.size() == 5);
}

TEST_CASE("the parts cover everything once, at multiples of the grain") {
  for (std::size_t count = 0; count < 70; ++count) {
    for (const std::size_t parts : {1U, 2U, 3U, 8U}) {
      for (const std::size_t grain : {1U, 4U, 16U}) {
        std::size_t at = 0, wrong = 0;
        for (std::size_t part = 0; part < parts; ++part) {
          const auto [first, last] = crayon::part_of(count, part, parts, grain);
          wrong += first != at || last < first || (first % grain != 0 && first != count);
          at = last;
        }
        INFO("count " << count << ", parts " << parts << ", grain " << grain);
        CHECK(wrong == 0);
        CHECK(at == count);
      }
    }
  }
}
