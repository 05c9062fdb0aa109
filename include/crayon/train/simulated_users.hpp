// SPDX-License-Identifier: MIT
// What simulated users bring.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <crayon/core/config.hpp>
#include <crayon/core/rng.hpp>

namespace crayon::train {

/// Draws the samples of one user after the other: of one to three tasks, in turn. Where tasks are
/// not known, clusters take their place.
class simulated_users {
 public:
  /// task[i] is that of sample i, numbered from 0.
  explicit simulated_users(std::span<const std::size_t> task) {
    for (std::size_t i = 0; i < task.size(); ++i) {
      if (task[i] >= members_.size()) members_.resize(task[i] + 1);
      members_[task[i]].push_back(i);
    }
    std::erase_if(members_, [](const auto& m) { return m.empty(); });
  }

  [[nodiscard]] std::size_t tasks() const noexcept { return members_.size(); }

  /// Numbers of `count` samples.
  [[nodiscard]] std::vector<std::size_t> draw(std::size_t count, rng& random) const {
    CRAYON_ASSERT(!members_.empty());
    std::array<std::size_t, 3> chosen{};
    const std::size_t of = 1 + random.below(chosen.size());
    for (std::size_t i = 0; i < of; ++i) chosen[i] = random.below(members_.size());
    std::vector<std::size_t> drawn;
    for (std::size_t i = 0; i < count; ++i) {
      const auto& task = members_[chosen[i % of]];
      drawn.push_back(task[random.below(task.size())]);
    }
    return drawn;
  }

 private:
  std::vector<std::vector<std::size_t>> members_;
};

}  // namespace crayon::train
