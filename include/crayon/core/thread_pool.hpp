// SPDX-License-Identifier: MIT
// An executor over a fixed set of threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <crayon/core/config.hpp>

namespace crayon {

/// `threads` workers, the calling thread being one of them. A region that follows another within
/// about 20 us finds the workers spinning and starts in under 1 us; later ones wake them (about
/// 44 us through a condition variable). One region at a time; regions do not nest.
class thread_pool {
 public:
  explicit thread_pool(std::size_t threads = std::thread::hardware_concurrency()) {
    if (threads == 0) threads = 1;
    workers_.reserve(threads - 1);
    for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  [[nodiscard]] std::size_t concurrency() const noexcept { return workers_.size() + 1; }

  /// Calls task(i) once for each i < count, in any order and on any thread, and returns when all
  /// are done. After an exception of a task (memory ran out) those not begun are left out, and it
  /// comes out of here when the others are done: of several, the first.
  template <class Task>
  void parallel_for(std::size_t count, Task&& task) {
    if (count <= 1 || workers_.empty()) {
      for (std::size_t i = 0; i < count; ++i) task(i);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      context_ = &task;
      invoke_ = [](void* context, std::size_t i) {
        (*static_cast<std::remove_reference_t<Task>*>(context))(i);
      };
      count_ = count;
      next_.store(0, std::memory_order_relaxed);
      running_.store(workers_.size(), std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (sleeping_.load(std::memory_order_relaxed) > 0) wake_.notify_all();
    drain();
    for (int spins = 0; running_.load(std::memory_order_acquire) != 0; ++spins) {
      if (spins > 4000) std::this_thread::yield();
    }
    if (thrown_ != nullptr) std::rethrow_exception(std::exchange(thrown_, nullptr));
  }

 private:
  void drain() noexcept {
    for (;;) {
      const std::size_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count_) return;
      try {
        invoke_(context_, i);
      } catch (...) {
        next_.store(count_, std::memory_order_relaxed);
        const std::lock_guard lock(mutex_);
        if (thrown_ == nullptr) thrown_ = std::current_exception();
      }
    }
  }

  void work() {
    std::size_t seen = 0;
    for (;;) {
      for (int spins = 0; generation_.load(std::memory_order_acquire) == seen && spins < 20000;
           ++spins) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
      }
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex_);
        sleeping_.fetch_add(1, std::memory_order_relaxed);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_relaxed) != seen; });
        sleeping_.fetch_sub(1, std::memory_order_relaxed);
      }
      seen = generation_.load(std::memory_order_acquire);
      {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;
      }
      drain();
      running_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::size_t> generation_{0}, next_{0}, running_{0}, sleeping_{0};
  void* context_ = nullptr;
  void (*invoke_)(void*, std::size_t) = nullptr;
  std::size_t count_ = 0;
  std::exception_ptr thrown_;
  bool stopping_ = false;
};

}  // namespace crayon
