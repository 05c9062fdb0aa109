// SPDX-License-Identifier: MIT
// What simulated users bring.
#pragma once

#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <crayon/core/config.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/rng.hpp>

namespace crayon::train {

/// How many tasks a simulated user has: each number of the range is as likely as another.
struct user_mix {
  std::size_t fewest = 1, most = 3;

  /// Error: no such range.
  [[nodiscard]] result<void> check() const {
    constexpr std::size_t limit = std::size_t{1} << 20;
    if (most > limit) {
      return error{errc::bad_value, "users of up to " + std::to_string(most) + " tasks: at most " +
                                        std::to_string(limit)};
    }
    if (fewest >= 1 && fewest <= most) return {};
    return error{errc::bad_value, "users of " + std::to_string(fewest) + " to " +
                                      std::to_string(most) +
                                      " tasks: the least is 1, and not above the most"};
  }
};

/// Draws the samples of one user after the other: all of one group (of the samples that share a
/// convention, a language, a person), and there of some tasks in turn. Groups are drawn evenly
/// however many samples they have, and so are the tasks of a user, each from all the group has: a
/// user of three may have the same one twice. Where tasks are not known, clusters take their place.
class simulated_users {
 public:
  /// task[i] and group[i] are those of sample i, numbered from 0. No `group`: all are of one.
  explicit simulated_users(std::span<const std::size_t> task,
                           std::span<const std::size_t> group = {}, user_mix mix = {})
      : mix_(mix) {
    CRAYON_ASSERT((group.empty() || group.size() == task.size()) && mix.check());
    for (std::size_t i = 0; i < task.size(); ++i) {
      const std::size_t g = group.empty() ? 0 : group[i];
      if (g >= groups_.size()) groups_.resize(g + 1);
      if (task[i] >= groups_[g].size()) groups_[g].resize(task[i] + 1);
      groups_[g][task[i]].push_back(i);
    }
    tasks_ = std::set<std::size_t>(task.begin(), task.end()).size();
    for (auto& tasks : groups_) std::erase_if(tasks, [](const auto& m) { return m.empty(); });
    std::erase_if(groups_, [](const auto& tasks) { return tasks.empty(); });
  }

  [[nodiscard]] std::size_t tasks() const noexcept { return tasks_; }
  [[nodiscard]] std::size_t groups() const noexcept { return groups_.size(); }

  /// Numbers of `count` samples.
  [[nodiscard]] std::vector<std::size_t> draw(std::size_t count, rng& random) const {
    CRAYON_ASSERT(!groups_.empty());
    const auto& tasks = groups_[groups_.size() == 1 ? 0 : random.below(groups_.size())];
    std::vector<std::size_t> chosen(mix_.fewest + random.below(mix_.most - mix_.fewest + 1));
    for (auto& task : chosen) task = random.below(tasks.size());
    std::vector<std::size_t> drawn;
    for (std::size_t i = 0; i < count; ++i) {
      const auto& members = tasks[chosen[i % chosen.size()]];
      drawn.push_back(members[random.below(members.size())]);
    }
    return drawn;
  }

 private:
  user_mix mix_;
  std::size_t tasks_ = 0;
  std::vector<std::vector<std::vector<std::size_t>>> groups_;  // samples by group and task
};

}  // namespace crayon::train
