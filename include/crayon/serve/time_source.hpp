// SPDX-License-Identifier: MIT
// Where a client's policies take their time from: the machine's clocks, or a test's.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <concepts>
#include <thread>

#include <crayon/serve/transport.hpp>

namespace crayon::serve {

template <class T>
concept time_source = std::move_constructible<T> &&
    requires(T& t, clock::time_point when, const std::atomic<bool>* cancelled) {
  { t.now() } -> std::same_as<clock::time_point>;                       // never goes back
  { t.date() } -> std::same_as<std::chrono::system_clock::time_point>;  // the wall clock
  t.wait_until(when, cancelled);  // returns at `when`, or soon after *cancelled; null: no flag
};

struct machine_time {
  [[nodiscard]] static clock::time_point now() noexcept { return clock::now(); }
  [[nodiscard]] static std::chrono::system_clock::time_point date() noexcept {
    return std::chrono::system_clock::now();
  }
  static void wait_until(clock::time_point when, const std::atomic<bool>* cancelled) {
    if (cancelled == nullptr) return std::this_thread::sleep_until(when);
    while (!cancelled->load() && clock::now() < when) {
      std::this_thread::sleep_until(std::min(when, clock::now() + std::chrono::milliseconds(10)));
    }
  }
};
static_assert(time_source<machine_time>);

}  // namespace crayon::serve
