// SPDX-License-Identifier: MIT
// Where tasks run. The thread pool is in core/thread_pool.hpp.
#pragma once

#include <cstddef>
#include <utility>

namespace crayon {

/// Runs every task on the calling thread, in order.
struct serial_executor {
  [[nodiscard]] static constexpr std::size_t concurrency() noexcept { return 1; }

  /// Calls task(0) ... task(count - 1); an exception of one ends it.
  template <class Task>
  void parallel_for(std::size_t count, Task&& task) const {
    for (std::size_t i = 0; i < count; ++i) task(i);
  }
};

/// The half-open range that part `index` of `parts` gets of `count` items, in steps of `grain`.
[[nodiscard]] constexpr std::pair<std::size_t, std::size_t> part_of(
    std::size_t count, std::size_t index, std::size_t parts, std::size_t grain = 1) noexcept {
  const std::size_t blocks = (count + grain - 1) / grain;
  const std::size_t first = blocks * index / parts * grain;
  const std::size_t last = blocks * (index + 1) / parts * grain;
  return {first < count ? first : count, last < count ? last : count};
}

}  // namespace crayon
