// SPDX-License-Identifier: MIT
#include <crayon/train/simulated_users.hpp>

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "../catch.hpp"

using namespace crayon;

TEST_CASE("users have samples of one group, of as many tasks as the mix says, in turn", "[train]") {
  // Sample 10 g + i is of group g and, of its ten, of task i % (2 + g): 2, 3 and 4 tasks.
  std::vector<std::size_t> task, group;
  for (std::size_t i = 0; i < 30; ++i) {
    group.push_back(i / 10);
    task.push_back(i % 10 % (2 + i / 10));
  }
  const train::simulated_users users(task, group, {2, 4});
  CHECK(users.groups() == 3);
  CHECK(users.tasks() == 4);
  rng random(5);
  std::map<std::size_t, std::size_t> of_group;
  std::map<std::size_t, std::size_t> periods;
  constexpr std::size_t draws = 3000;
  for (std::size_t n = 0; n < draws; ++n) {
    const auto drawn = users.draw(24, random);
    REQUIRE(drawn.size() == 24);
    std::set<std::size_t> groups;
    std::vector<std::size_t> tasks;
    for (const std::size_t i : drawn) {
      groups.insert(group[i]);
      tasks.push_back(task[i]);
    }
    REQUIRE(groups.size() == 1);
    ++of_group[*groups.begin()];
    // The sequence of tasks repeats after 2, 3 or 4 samples.
    std::size_t period = 1;
    const auto repeats = [&](std::size_t p) {
      for (std::size_t i = p; i < tasks.size(); ++i) {
        if (tasks[i] != tasks[i - p]) return false;
      }
      return true;
    };
    while (!repeats(period)) ++period;
    REQUIRE(period <= 4);
    if (*groups.begin() == 2) ++periods[period];
  }
  // Groups evenly: a binomial's standard deviation is 26.
  for (const auto& [g, count] : of_group) CHECK(std::abs(double(count) - draws / 3.0) < 130);
  // Of four tasks, three of a user are the same one with 1/16, two with 1/4, four with 1/64.
  const double each = double(of_group[2]) / 3;
  CHECK(double(periods[1]) / each == Approx(1 / 4.0 + 1 / 16.0 + 1 / 64.0).margin(0.08));
  CHECK(double(periods[3]) / each == Approx(15 / 16.0).margin(0.12));
}

TEST_CASE("users of exactly one task; numbers that nobody has are nobody's", "[train]") {
  const std::vector<std::size_t> task{7, 7, 3, 3, 3}, group{4, 4, 4, 1, 1};
  const train::simulated_users users(task, group, {1, 1});
  CHECK(users.tasks() == 2);
  CHECK(users.groups() == 2);
  rng random(2);
  std::set<std::set<std::size_t>> seen;
  for (int n = 0; n < 200; ++n) {
    const auto drawn = users.draw(30, random);
    seen.insert({drawn.begin(), drawn.end()});
  }
  CHECK(seen == std::set<std::set<std::size_t>>{{0, 1}, {2}, {3, 4}});
}

TEST_CASE("without groups, users are what they were", "[train]") {
  const std::vector<std::size_t> task{0, 1, 2, 0, 1, 2}, one(6);
  rng a(9), b(9);
  const train::simulated_users plain(task), grouped(task, one);
  for (int n = 0; n < 20; ++n) CHECK(plain.draw(8, a) == grouped.draw(8, b));
}

TEST_CASE("a mix that is no range is refused", "[train]") {
  CHECK(train::user_mix{2, 2}.check());
  CHECK(train::user_mix{0, 2}.check().error().text ==
        "users of 0 to 2 tasks: the least is 1, and not above the most");
  CHECK(train::user_mix{1, ~std::size_t{0}}.check().error().text ==
        "users of up to 18446744073709551615 tasks: at most 1048576");
  CHECK_FALSE(train::user_mix{3, 2}.check());
}
