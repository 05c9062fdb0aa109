// SPDX-License-Identifier: MIT
#include <crayon/core/utf8.hpp>

#include <string>
#include <vector>

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

TEST_CASE("what is no UTF-8 is replaced, what is stays", "[core]") {
  using crayon::valid_utf8;
  const std::string mark = "\xEF\xBF\xBD";
  for (const std::string& text : std::vector<std::string>{
           "", "abc", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
           "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "a\xC3\xBC\xE2\x82\xAC!"}) {
    CHECK(valid_utf8(text) == text);
  }
  // The table of ill-formed sequences of the Unicode standard, 3-7, at its edges.
  for (const std::string& text : std::vector<std::string>{
           "\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",
           "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82",
           "\xF0\x9F\x96", "\xC3"}) {
    std::string marks;
    for (std::size_t i = 0; i < text.size(); ++i) marks += mark;
    CHECK(valid_utf8(text) == marks);
    CHECK(valid_utf8("a" + text + "b") == "a" + marks + "b");
  }
  CHECK(valid_utf8("\xE2\x82\xC3\xBC") == mark + mark + "\xC3\xBC");
}
