// SPDX-License-Identifier: MIT
#include <crayon/engine/answer_text.hpp>

#include <string>
#include <vector>

#include "../catch.hpp"

namespace {

struct outcome {
  std::string text;
  std::vector<std::string> pieces;
  bool stopped;
};

outcome run(const std::vector<std::string>& bytes, const std::vector<std::string>& stops,
            bool drop_space = false) {
  outcome out{};
  const auto sink = [&](std::string_view piece) {
    out.pieces.emplace_back(piece);
    return true;
  };
  crayon::engine::answer_text text(stops, drop_space, sink);
  for (const auto& b : bytes) {
    if (!text.add(b)) break;
  }
  text.finish();
  out.text = text.text();
  out.stopped = text.stopped();
  return out;
}

}  // namespace

TEST_CASE("without stop texts every piece is handed on at once", "[engine]") {
  const auto out = run({"ab", "", "c"}, {});
  CHECK(out.pieces == std::vector<std::string>{"ab", "c"});
  CHECK(out.text == "abc");
  CHECK_FALSE(out.stopped);
}

TEST_CASE("an answer ends before the first stop text, however it is cut", "[engine]") {
  const std::string said = "one two\n\nthree END four";
  for (std::size_t size = 1; size <= said.size(); ++size) {
    std::vector<std::string> bytes;
    for (std::size_t at = 0; at < said.size(); at += size) bytes.push_back(said.substr(at, size));
    CHECK(run(bytes, {"END", "\n\n"}).text == "one two");
    CHECK(run(bytes, {"\n\n", "END"}).text == "one two");
    CHECK(run(bytes, {"END"}).text == "one two\n\nthree ");
    CHECK(run(bytes, {"ENDE", "five"}).text == said);
    CHECK(run(bytes, {"\n\nthree", "\n\n"}).text == "one two");
    CHECK(run(bytes, {"one"}).text.empty());
  }
  CHECK(run({"aab"}, {"ab"}).text == "a");
}

TEST_CASE("only what may become a stop text is held back", "[engine]") {
  const auto out = run({"x E", "N", "D?", "y EN"}, {"END!"});
  CHECK(out.pieces == std::vector<std::string>{"x ", "END?", "y ", "EN"});
}

TEST_CASE("characters stay whole", "[engine]") {
  const auto out = run({"\xC3", "\xBC\xE2", "\x82", "\xAC", "\xF0"}, {});
  CHECK(out.pieces == std::vector<std::string>{"\xC3\xBC", "\xE2\x82\xAC", "\xF0"});
}

TEST_CASE("the space that a tokenizer puts first is dropped once", "[engine]") {
  CHECK(run({" a", " b"}, {}, true).text == "a b");
  CHECK(run({"", " ", " b"}, {}, true).text == " b");
  CHECK(run({"a", " b"}, {}, true).text == "a b");
  CHECK(run({" a"}, {}, false).text == " a");
}
