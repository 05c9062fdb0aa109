// SPDX-License-Identifier: MIT
#include <crayon/adapter/module_pattern.hpp>

#include <fstream>
#include <string>

#include "../catch.hpp"

using namespace crayon;
using adapter::module_pattern;

TEST_CASE("patterns match the names that PEFT says they match") {
  std::ifstream file(CRAYON_FIXTURES "/patterns.tsv");
  REQUIRE(file);
  std::string line;
  std::size_t lines = 0;
  while (std::getline(file, line)) {
    const auto first = line.find('\t'), second = line.find('\t', first + 1);
    const std::string pattern = line.substr(0, first);
    const std::string name = line.substr(first + 1, second - first - 1);
    INFO("pattern " << pattern << " name " << name);
    const auto matches = module_pattern::matches(pattern, name);
    REQUIRE(matches);
    CHECK(*matches == (line.substr(second + 1) == "1"));
    ++lines;
  }
  CHECK(lines > 600);
}

TEST_CASE("a pattern that is not understood is an error that quotes it") {
  for (const std::string pattern :
       {"(?!a)b", "(?P<n>a)", R"(\1)", "a)", "(a", "[a", "*a", "a**", "a{2", "a{x}", "a{3,2}",
        "a{99999}", "[z-a]", R"(\)", R"(\bq)", "[^"}) {
    INFO(pattern);
    const auto matches = module_pattern::matches(pattern, "model.layers.0.q_proj");
    REQUIRE(!matches);
    CHECK(matches.error().code == errc::unsupported);
    CHECK(matches.error().text.find("pattern \"" + pattern + "\" is not understood") == 0);
  }
  CHECK_FALSE(module_pattern::matches(std::string(100, '(') + std::string(100, ')'), "a"));
}

TEST_CASE("patterns that make other matchers explode take no longer") {
  const std::string name(200, 'a');
  CHECK_FALSE(*module_pattern::matches("(a*)*(a*)*(a*)*b", name));
  CHECK_FALSE(*module_pattern::matches("(((a+)+)+)+b", name));
  CHECK(*module_pattern::matches("(a|aa)+", name));
  CHECK(*module_pattern::matches("((a?){1000}){1000}", name));
  CHECK(*module_pattern::matches("(a?){150,}", name));
  CHECK_FALSE(*module_pattern::matches("(^a){2,3}", name));
  std::string nested = "a";
  for (int depth = 0; depth < 30; ++depth) nested = "(" + nested + ")*";
  const auto refused = module_pattern::matches(nested, name);
  REQUIRE(!refused);
  CHECK(refused.error().text == "pattern \"" + nested + "\" repeats too many repeats");
}
