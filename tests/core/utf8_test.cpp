// SPDX-License-Identifier: MIT
#include <crayon/core/utf8.hpp>

#include <string>

#include "../catch.hpp"

using crayon::unfinished_utf8;

TEST_CASE("only the start of a character is held back", "[core]") {
  const std::string text = "a\xC3\xBC\xE2\x82\xAC\xF0\x9F\x96\x8D!";  // 1, 2, 3, 4, 1 bytes
  for (std::size_t size = 1; size <= text.size(); ++size) {
    crayon::utf8_joiner joiner;
    std::string joined;
    for (std::size_t at = 0; at < text.size(); at += size) {
      const auto whole = joiner.add(std::string_view(text).substr(at, size));
      CHECK(unfinished_utf8(whole) == 0);
      joined += whole;
    }
    CHECK(joined == text);
    CHECK(joiner.rest().empty());
  }
}

TEST_CASE("broken bytes pass instead of being held for ever", "[core]") {
  CHECK(unfinished_utf8("\x80\x80\x80\x80") == 0);
  CHECK(unfinished_utf8("\xC3"
                        "a") == 0);
  CHECK(unfinished_utf8("a\xF0\x9F\x96") == 3);
  CHECK(unfinished_utf8("a\xE2\x82") == 2);
  CHECK(unfinished_utf8("a\xC3") == 1);
  CHECK(unfinished_utf8("") == 0);
  crayon::utf8_joiner joiner;
  CHECK(joiner.add("x\xC3") == "x");
  CHECK(joiner.rest() == "\xC3");
}
