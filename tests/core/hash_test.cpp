// SPDX-License-Identifier: MIT
#include <crayon/core/hash.hpp>

#include <set>
#include <string>

#include "../catch.hpp"

using crayon::hasher;

namespace {

std::string hash_of(std::string_view text) {
  hasher h;
  h.add(text);
  return h.hex();
}

}  // namespace

TEST_CASE("equal bytes have equal hashes; any other byte or length has another") {
  const std::string text(100, 'x');
  CHECK(hash_of(text) == hash_of(text));
  std::set<std::string> seen{hash_of(text)};
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string other = text;
    other[i] = 'y';
    CHECK(seen.insert(hash_of(other)).second);
  }
  for (std::size_t n = 0; n < text.size(); ++n) {
    CHECK(seen.insert(hash_of(text.substr(0, n))).second);
  }
}

TEST_CASE("16 hexadecimal digits that stay the same from one release to the next") {
  CHECK(hasher().hex() == "cbf29ce484222325");
  CHECK(hash_of("crayon: a pool of adapters") == "a1d28a8c8fbcf3dd");
}
