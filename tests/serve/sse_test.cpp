// SPDX-License-Identifier: MIT
#include <crayon/serve/sse.hpp>

#include <string>
#include <utility>
#include <vector>

#include "../catch.hpp"

namespace {

using events = std::vector<std::pair<std::string, std::string>>;

/// The stream in chunks of `size` bytes.
events parse(std::string_view stream, std::size_t size) {
  crayon::serve::sse_parser parser;
  events seen;
  for (std::size_t at = 0; at < stream.size(); at += size) {
    parser.feed(stream.substr(at, size), [&](const crayon::serve::sse_event& e) {
      seen.emplace_back(e.type, e.data);
      return true;
    });
  }
  return seen;
}

struct example {
  std::string stream;
  events expected;
};

const std::vector<example> examples{
    {"data: one\n\ndata: two\n\n", {{"", "one"}, {"", "two"}}},
    {"data: one\r\n\r\ndata: two\r\n\r\n", {{"", "one"}, {"", "two"}}},
    {"data: one\r\rdata: two\r\r", {{"", "one"}, {"", "two"}}},
    {"data: mixed\n\r\ndata: two\r\r\n", {{"", "mixed"}, {"", "two"}}},
    {"data: one\r\ndata: more\r\n\r\n", {{"", "one\nmore"}}},
    // The examples of the standard, 9.2.6.
    {"data: YHOO\ndata: +2\ndata: 10\n\n", {{"", "YHOO\n+2\n10"}}},
    {": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
     {{"", "first event"}, {"", "second event"}}},
    {"data\n\ndata\ndata\n\ndata:", {{"", ""}, {"", "\n"}}},
    {"data:test\n\ndata: test\n\n", {{"", "test"}, {"", "test"}}},
    {"event: ping\ndata: x\n\ndata: y\n\n", {{"ping", "x"}, {"", "y"}}},
    {"event: empty\n\ndata: y\n\n", {{"", "y"}}},
    {"\xEF\xBB\xBF"
     "data: after the mark\n\n",
     {{"", "after the mark"}}},
    {"data: \xEF\xBB\xBF"
     "inside\n\n",
     {{"",
       "\xEF\xBB\xBF"
       "inside"}}},
    {"data: one\n\n\xEF\xBB\xBF"
     "data: a mark that is not at the start\n\n",
     {{"", "one"}}},
    {"retry: 10\nunknown: x\ndatax: y\n: c\ndata: a:b: c\n\n", {{"", "a:b: c"}}},
    {"data: not finished\n", {}},
    {"data: gr\xC3\xBC\xC3\x9F\xF0\x9F\x96\x8D\n\n", {{"", "gr\xC3\xBC\xC3\x9F\xF0\x9F\x96\x8D"}}},
    {"", {}},
};

}  // namespace

TEST_CASE("events are the same for every way the bytes are cut", "[serve]") {
  for (const auto& [stream, expected] : examples) {
    for (std::size_t size = 1; size <= stream.size(); ++size) {
      CAPTURE(stream, size);
      CHECK(parse(stream, size) == expected);
    }
  }
}

TEST_CASE("a sink that has enough gets no more", "[serve]") {
  crayon::serve::sse_parser parser;
  std::size_t calls = 0;
  const bool went_on = parser.feed("data: 1\n\ndata: 2\n\n", [&](const auto&) {
    ++calls;
    return false;
  });
  CHECK_FALSE(went_on);
  CHECK(calls == 1);
  CHECK(parser.count() == 1);
}
