// SPDX-License-Identifier: MIT
// Simulated users.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/core/rng.hpp>

#include "samples.hpp"

namespace crayon::cli {

/// Draws what one simulated user brings: samples of one to three tasks. Without task labels the
/// clusters of the samples are the tasks.
class user_source {
 public:
  user_source(const std::vector<sample>& samples, std::span<const std::size_t> clusters) {
    std::map<std::string, std::vector<std::size_t>> groups;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      groups[samples[i].task.empty() ? "cluster " + std::to_string(clusters[i]) : samples[i].task]
          .push_back(i);
    }
    for (auto& [name, members] : groups) tasks_.push_back(std::move(members));
  }

  [[nodiscard]] std::size_t tasks() const noexcept { return tasks_.size(); }

  [[nodiscard]] std::vector<std::size_t> draw(std::size_t count, rng& random) const {
    std::array<std::size_t, 3> chosen{};
    const std::size_t of = 1 + random.below(chosen.size());
    for (std::size_t i = 0; i < of; ++i) chosen[i] = random.below(tasks_.size());
    std::vector<std::size_t> drawn;
    for (std::size_t i = 0; i < count; ++i) {
      const auto& task = tasks_[chosen[i % of]];
      drawn.push_back(task[random.below(task.size())]);
    }
    return drawn;
  }

 private:
  std::vector<std::vector<std::size_t>> tasks_;
};

}  // namespace crayon::cli
