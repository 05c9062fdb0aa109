// SPDX-License-Identifier: MIT
// Who works now, who waits, and who is sent away.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <crayon/core/config.hpp>

namespace crayon::serve {

enum class refusal : std::uint8_t {
  full,    ///< as many wait already as may
  late,    ///< no slot was free in time
  closing  ///< nobody is let in any more
};

/// Slots 0 to n - 1, each for one at a time. Who waits gets one in the order of coming.
class admission {
 public:
  /// A slot, for as long as this lives.
  class ticket {
   public:
    ticket(ticket&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), slot_(other.slot_) {}
    ticket& operator=(ticket&&) = delete;
    ~ticket() {
      if (owner_ != nullptr) owner_->give_back(slot_);
    }
    [[nodiscard]] std::size_t slot() const noexcept { return slot_; }

   private:
    friend class admission;
    ticket(admission& owner, std::size_t slot) noexcept : owner_(&owner), slot_(slot) {}

    admission* owner_;
    std::size_t slot_;
  };

  admission(std::size_t slots, std::size_t most_waiting)
      : slots_(slots), most_waiting_(most_waiting) {
    CRAYON_ASSERT(slots > 0);
    for (std::size_t i = slots; i > 0; --i) free_.push_back(i - 1);
  }
  admission(const admission&) = delete;
  admission& operator=(const admission&) = delete;

  /// A slot, after at most `patience`; nothing, and `why`, if there is none.
  [[nodiscard]] std::optional<ticket> enter(std::chrono::milliseconds patience, refusal& why) {
    std::unique_lock lock(mutex_);
    why = refusal::closing;
    if (closing_) return std::nullopt;
    if (!free_.empty()) {
      const std::size_t slot = free_.back();
      free_.pop_back();
      return ticket(*this, slot);
    }
    why = refusal::full;
    if (queue_.size() >= most_waiting_) return std::nullopt;
    waiter self;
    queue_.push_back(&self);
    changed_.wait_for(lock, patience, [&] { return self.slot || closing_; });
    if (self.slot) return ticket(*this, *self.slot);
    std::erase(queue_, &self);
    why = closing_ ? refusal::closing : refusal::late;
    return std::nullopt;
  }

  /// From now on nobody gets a slot; those who wait are sent away. Returns when all slots are free,
  /// or after `patience`: false.
  bool close(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    closing_ = true;
    changed_.notify_all();
    return changed_.wait_for(lock, patience, [&] { return free_.size() == slots_; });
  }

  [[nodiscard]] bool closing() const {
    const std::lock_guard lock(mutex_);
    return closing_;
  }
  [[nodiscard]] std::size_t slots() const noexcept { return slots_; }
  [[nodiscard]] std::size_t waiting() const {
    const std::lock_guard lock(mutex_);
    return queue_.size();
  }
  [[nodiscard]] std::size_t working() const {
    const std::lock_guard lock(mutex_);
    return slots_ - free_.size();
  }

 private:
  struct waiter {
    std::optional<std::size_t> slot;
  };

  void give_back(std::size_t slot) {
    const std::lock_guard lock(mutex_);
    if (queue_.empty() || closing_) {
      free_.push_back(slot);
    } else {
      queue_.front()->slot = slot;
      queue_.pop_front();
    }
    changed_.notify_all();
  }

  const std::size_t slots_, most_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::size_t> free_;
  std::deque<waiter*> queue_;  // in the order of coming
  bool closing_ = false;
};

}  // namespace crayon::serve
