// SPDX-License-Identifier: MIT
// An adapter that is replaced while models run with it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/model/delta.hpp>

namespace crayon::engine {

/// Two adapters: readers use the one, a writer blends into the other and publishes it. A reader
/// sees the adapter of one update or that of another, whole. Any number of threads may read, any
/// number may write (one after the other).
///
///   const auto live = *engine::hot_swap<backend, bf16>::make(config, adapter);
///   { const auto now = live->pin(); logits = session.forward(token, *now, threads); }  // decodes
///   live->update([&](auto& idle) {                                                     // swaps
///     return blend::linear<backend>::blend_into(pool, weights, idle, other_threads);
///   });
///
/// A reader that pins anew for every token goes over to the new adapter in the middle of an answer,
/// with keys and values of the old one in its cache; one that holds a pin for an answer finishes it
/// with the adapter it began with. To pin costs four atomic operations and never waits. (A reader
/// and a writer must not share an executor that runs one region at a time.)
template <kernel_backend B, element E>
class hot_swap : public std::enable_shared_from_this<hot_swap<B, E>> {
 public:
  using adapter_type = adapter::lora_adapter<E>;
  using delta_type = model::lora_delta<B, E>;

 private:
  struct buffer {
    adapter_type adapter;
    delta_type delta;
    std::vector<adapter::site_shape> bound;  // what delta refers to, in memory that starts here
    const E* bound_to = nullptr;
    std::uint64_t version = 0;
    alignas(64) std::atomic<std::uint32_t> readers{0};
  };

 public:
  /// Holds on to the adapter in use, and to the `hot_swap`.
  class pinned {
   public:
    pinned() noexcept = default;
    pinned(pinned&& other) noexcept
        : owner_(std::move(other.owner_)), held_(std::exchange(other.held_, nullptr)) {}
    pinned& operator=(pinned&& other) noexcept {
      const pinned released = std::move(*this);
      owner_ = std::move(other.owner_);
      held_ = std::exchange(other.held_, nullptr);
      return *this;
    }
    ~pinned() {
      if (held_ != nullptr && held_->readers.fetch_sub(1) == 1) held_->readers.notify_all();
    }

    [[nodiscard]] explicit operator bool() const noexcept { return held_ != nullptr; }
    /// What the forward pass takes.
    [[nodiscard]] const delta_type& operator*() const noexcept { return held_->delta; }
    [[nodiscard]] const adapter_type& adapter() const noexcept { return held_->adapter; }
    /// Updates before this one: 0 is the adapter that `make` was given.
    [[nodiscard]] std::uint64_t version() const noexcept { return held_->version; }

   private:
    friend class hot_swap;
    pinned(std::shared_ptr<const hot_swap> owner, buffer& held) noexcept
        : owner_(std::move(owner)), held_(&held) {}

    std::shared_ptr<const hot_swap> owner_;
    buffer* held_ = nullptr;
  };

  /// In use from the start: `first`. Errors: modules or shapes that are not the model's.
  [[nodiscard]] static result<std::shared_ptr<hot_swap>> make(const model::llama_config& config,
                                                              adapter_type first) {
    std::shared_ptr<hot_swap> made(new hot_swap(config));
    made->buffers_[1].adapter = first;
    made->buffers_[0].adapter = std::move(first);
    for (auto& b : made->buffers_) CRAYON_CHECK(made->bind(b));
    return made;
  }

  hot_swap(const hot_swap&) = delete;
  hot_swap& operator=(const hot_swap&) = delete;

  /// The adapter in use, until the result is destroyed.
  [[nodiscard]] pinned pin() const noexcept {
    for (;;) {
      buffer& b = buffers_[in_use_.load()];
      b.readers.fetch_add(1);
      // Counted first, then looked again: a writer either sees the count or has been seen. All of
      // these operations are sequentially consistent, which that argument needs.
      pinned held(this->shared_from_this(), b);
      if (&b == &buffers_[in_use_.load()]) return held;
    }
  }

  /// Updates published so far.
  [[nodiscard]] std::uint64_t version() const noexcept { return pin().version(); }

  /// Calls `fill(adapter_type&) -> result<void>` on the adapter that is not in use, whatever it
  /// holds, then puts it in use. Waits for readers that still hold it, which are those that pinned
  /// before the last update. Allocates nothing where `fill` leaves the factors where they are; it
  /// may also assign another adapter. Errors: those of `fill`, and modules or shapes that are not
  /// the model's; the adapter in use then stays.
  template <class Fill>
  [[nodiscard]] result<void> update(Fill&& fill) {
    const std::lock_guard lock(writers_);
    buffer& idle = buffers_[1 - in_use_.load()];
    for (std::uint32_t n = idle.readers.load(); n != 0; n = idle.readers.load()) {
      idle.readers.wait(n);
    }
    return publish(idle, fill);
  }

  /// The same, but refuses (errc::timed_out) instead of waiting for readers.
  template <class Fill>
  [[nodiscard]] result<void> try_update(Fill&& fill) {
    const std::lock_guard lock(writers_);
    buffer& idle = buffers_[1 - in_use_.load()];
    if (const std::uint32_t n = idle.readers.load(); n != 0) {
      return error{errc::timed_out, "the adapter before the last update is still in use by " +
                                        std::to_string(n) + " readers"};
    }
    return publish(idle, fill);
  }

 private:
  explicit hot_swap(const model::llama_config& config)
      : config_(config),
        buffers_{buffer{{}, delta_type(config), {}}, buffer{{}, delta_type(config), {}, nullptr}} {}

  template <class Fill>
  [[nodiscard]] result<void> publish(buffer& idle, Fill& fill) {
    CRAYON_CHECK(fill(idle.adapter));
    if (!bound(idle)) CRAYON_CHECK(bind(idle));
    idle.version = buffers_[in_use_.load()].version + 1;
    in_use_.store(static_cast<std::size_t>(&idle - buffers_.data()));
    return {};
  }

  [[nodiscard]] result<void> bind(buffer& b) {
    b.bound.clear();
    CRAYON_TRY(b.delta, delta_type::bind(config_, b.adapter));
    b.bound = b.adapter.shapes();
    b.bound_to = memory(b.adapter);
    return {};
  }

  /// Whether the delta refers to the adapter's factors as they are now.
  [[nodiscard]] static bool bound(const buffer& b) noexcept {
    return b.bound == b.adapter.shapes() && b.bound_to == memory(b.adapter);
  }

  [[nodiscard]] static const E* memory(const adapter_type& adapter) noexcept {
    return adapter.size() == 0 ? nullptr : adapter.factors(0).a.data;
  }

  model::llama_config config_;
  mutable std::array<buffer, 2> buffers_;
  alignas(64) std::atomic<std::size_t> in_use_{0};
  std::mutex writers_;
};

}  // namespace crayon::engine
