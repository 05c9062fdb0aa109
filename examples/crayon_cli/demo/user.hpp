// SPDX-License-Identifier: MIT
// Users: what tasks they have, what they bring, what they ask.
#pragma once

#include <algorithm>
#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "tasks.hpp"

namespace crayon::demo {

/// Samples that a user brings.
inline constexpr std::size_t brought = 8;

/// Tasks of different families, one convention of each.
using task_mix = std::vector<std::size_t>;

/// The user of the demo's story; no simulated user of the training has this mix.
[[nodiscard]] inline task_mix story_mix() {
  return {find_task("date/month day"), find_task("sentiment/good bad"), find_task("intent/domain"),
          find_task("number/roman")};
}

/// Two to four families, drawn uniformly, each under one of its conventions.
[[nodiscard]] inline task_mix random_mix(rng& random) {
  for (;;) {
    const std::size_t count = 2 + random.below(3);
    task_mix mix;
    while (mix.size() < count) {
      const std::size_t family = random.below(families());
      task_mix choices;
      for (std::size_t t = 0; t < tasks().size(); ++t) {
        if (tasks()[t].family_index == family) choices.push_back(t);
      }
      const bool known = std::any_of(
          mix.begin(), mix.end(), [&](std::size_t t) { return tasks()[t].family_index == family; });
      if (!known) mix.push_back(choices[random.below(choices.size())]);
    }
    const task_mix story = story_mix();
    const auto in_mix = [&](std::size_t t) {
      return std::find(mix.begin(), mix.end(), t) != mix.end();
    };
    if (!std::all_of(story.begin(), story.end(), in_mix)) return mix;
  }
}

/// `count` different questions, the tasks of the mix in turn; none of `not_these`.
[[nodiscard]] inline std::vector<sample> draw(const task_mix& mix, std::size_t count, split which,
                                              rng& random,
                                              const std::vector<sample>& not_these = {}) {
  std::set<std::string> seen;
  for (const auto& s : not_these) seen.insert(s.prompt);
  std::vector<sample> drawn;
  while (drawn.size() < count) {
    sample s = generate(mix[drawn.size() % mix.size()], which, random);
    if (seen.insert(s.prompt).second) drawn.push_back(std::move(s));
  }
  return drawn;
}

/// Tasks of other families than the mix has, whose questions say everything.
[[nodiscard]] inline task_mix outside_of(const task_mix& mix) {
  task_mix others;
  for (std::size_t t = 0; t < tasks().size(); ++t) {
    const bool own = std::any_of(mix.begin(), mix.end(), [&](std::size_t m) {
      return tasks()[m].family_index == tasks()[t].family_index;
    });
    if (!own && tasks()[t].convention.empty()) others.push_back(t);
  }
  return others;
}

}  // namespace crayon::demo
