// SPDX-License-Identifier: MIT
#include "demo/tasks.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "demo/user.hpp"

using namespace crayon;
using namespace crayon::demo;

TEST_CASE("at least 12 families, part of them under several conventions") {
  CHECK(families() >= 12);
  std::map<std::size_t, std::size_t> conventions;
  for (const auto& t : tasks()) ++conventions[t.family_index];
  CHECK(std::count_if(conventions.begin(), conventions.end(),
                      [](const auto& c) { return c.second > 1; }) == 8);
  CHECK(find_task("date/month day") < tasks().size());
  CHECK(find_task("date") == tasks().size());
}

TEST_CASE("the same seed gives the same samples, and splits never meet") {
  rng a(3), b(3);
  std::map<split, std::set<std::string>> prompts;
  for (std::size_t t = 0; t < tasks().size(); ++t) {
    for (const split s : {split::train, split::calibration, split::held_out}) {
      for (std::size_t i = 0; i < 60; ++i) {
        const sample one = generate(t, s, a), two = generate(t, s, b);
        CHECK(one.prompt == two.prompt);
        CHECK(one.completion == two.completion);
        CHECK(split_of(one.prompt) == s);
        CHECK(!one.completion.empty());
        prompts[s].insert(one.prompt);
      }
    }
  }
  for (const auto& p : prompts[split::train]) CHECK(prompts[split::held_out].count(p) == 0);
}

TEST_CASE("conventions of a family answer the same questions differently") {
  const task_mix dates{find_task("date/day month"), find_task("date/month day"),
                       find_task("date/day/month")};
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    std::set<std::string> asked, answers;
    for (const std::size_t t : dates) {
      rng same(seed);
      const sample s = generate(t, split::train, same);
      asked.insert(s.prompt);
      answers.insert(s.completion);
    }
    CHECK(asked.size() == 1);
    CHECK(answers.size() == 3);
  }
}

TEST_CASE("answers are right") {
  rng random(11);
  for (std::size_t i = 0; i < 400; ++i) {
    const sample sum = generate(find_task("arithmetic"), split::train, random);
    int a = 0, b = 0;
    char sign = 0;
    REQUIRE(std::sscanf(sum.prompt.c_str(), "Compute %d %c %d.", &a, &sign, &b) == 3);
    CHECK(sum.completion == std::to_string(sign == '+' ? a + b : a - b));

    const sample next = generate(find_task("sequence"), split::train, random);
    int x = 0, y = 0, z = 0;
    const std::string numbers = next.prompt.substr(next.prompt.find(':') + 1);
    REQUIRE(std::sscanf(numbers.c_str(), "%d %d %d", &x, &y, &z) == 3);
    CHECK(next.completion == std::to_string(z + (y - x)));

    const sample spelled = generate(find_task("spelling"), split::train, random);
    std::string word = spelled.completion;
    word.erase(std::remove(word.begin(), word.end(), ' '), word.end());
    CHECK(spelled.prompt.find("'" + word + "'") != std::string::npos);
  }
  const std::map<std::string, std::string> known{
      {"Capital city of Norway?", "Oslo"},
      {"Plural of 'city'?", "cities"},
      {"Many of a mouse?", "mice"},
      {"Opposite of 'hot'?", "cold"},
      {"Translate 'dog'.", "Hund"},
      {"Clock for quarter to one in the afternoon?", "12:45 pm"},
      {"Add 9 days to 25 February.", "March 6"},
      {"The sum of four and five?", "IX"}};
  std::map<std::string, std::string> seen;
  for (const char* name : {"capital", "plural", "opposite", "translate/german", "clock/am pm",
                           "date/month day", "number/roman"}) {
    for (const split s : {split::train, split::calibration, split::held_out}) {
      for (std::size_t i = 0; i < 20000; ++i) {
        const sample one = generate(find_task(name), s, random);
        if (known.count(one.prompt) != 0) seen[one.prompt] = one.completion;
      }
    }
  }
  CHECK(seen == known);
}

TEST_CASE("simulated users never have the story's whole mix, and draws do not repeat") {
  rng random(5);
  for (std::size_t i = 0; i < 2000; ++i) {
    const task_mix mix = random_mix(random);
    CHECK((mix.size() >= 2 && mix.size() <= 4));
    std::set<std::size_t> of;
    for (const std::size_t t : mix) of.insert(tasks()[t].family_index);
    CHECK(of.size() == mix.size());
  }
  const auto questions = draw(story_mix(), 600, split::held_out, random);
  std::set<std::string> different;
  for (const auto& q : questions) different.insert(q.prompt);
  CHECK(different.size() == 600);
  for (const std::size_t t : outside_of(story_mix())) CHECK(tasks()[t].convention.empty());
}
