// SPDX-License-Identifier: MIT
// How much of a mapped pool stays in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <algorithm>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/function_ref.hpp>
#include <crayon/core/result.hpp>

// The unit is the site: the tiles of all adapters share pages (a tile is 1 KB by default, a page
// 4 KB), so that one adapter cannot leave without the others. What counts is the factors, not the R
// factors. A site that leaves is unmapped: the process's memory shrinks at once, the system's file
// cache keeps what it has room for, and the next read brings the pages back.
//
// A blend goes through all sites in order, again and again. Of a pool larger than the budget, `lru`
// then lets every site go just before it is needed again, and `pinned` keeps as many as fit: the
// first is for reads that prefer some sites, the second for repeated blends.

namespace crayon::adapter {

/// The operating system decides alone.
struct keep_all {
  [[nodiscard]] result<void> start(std::span<const std::size_t>,
                                   function_ref<result<void>(std::size_t)>) noexcept {
    return {};
  }
  void use(std::size_t, function_ref<void(std::size_t)>) noexcept {}
};
static_assert(residency_policy<keep_all>);

namespace residency {

[[nodiscard]] inline result<void> check_budget(std::span<const std::size_t> bytes,
                                               std::size_t budget) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] <= budget) continue;
    return error{errc::bad_value, "a budget of " + std::to_string(budget) + " bytes, but site " +
                                      std::to_string(i) + " alone has " + std::to_string(bytes[i])};
  }
  return {};
}

}  // namespace residency

/// At most `budget` bytes of sites, the least recently used ones leave first. (A thread that still
/// reads a site that has left brings its pages back.)
class lru {
 public:
  explicit lru(std::size_t budget) noexcept : budget_(budget) {}
  lru(lru&& other) noexcept : budget_(other.budget_) {}  // before `start`

  [[nodiscard]] result<void> start(std::span<const std::size_t> bytes,
                                   function_ref<result<void>(std::size_t)>) {
    CRAYON_CHECK(residency::check_budget(bytes, budget_));
    bytes_.assign(bytes.begin(), bytes.end());
    used_.assign(bytes.size(), 0);
    return {};
  }

  void use(std::size_t site, function_ref<void(std::size_t)> let_go) noexcept {
    const std::lock_guard lock(mutex_);
    if (used_[site] == 0) held_ += bytes_[site];
    used_[site] = ++clock_;
    while (held_ > budget_) {
      std::size_t oldest = site;
      for (std::size_t i = 0; i < used_.size(); ++i) {
        if (used_[i] != 0 && used_[i] < used_[oldest]) oldest = i;
      }
      used_[oldest] = 0;
      held_ -= bytes_[oldest];
      let_go(oldest);
    }
  }

 private:
  std::size_t budget_;
  std::size_t held_ = 0;
  std::uint64_t clock_ = 0;
  std::vector<std::size_t> bytes_;
  std::vector<std::uint64_t> used_;  // 0: not in memory
  std::mutex mutex_;
};
static_assert(residency_policy<lru>);

/// The first sites that fit into `budget`, beside the largest of the others, are loaded at once and
/// locked in memory; each of the others leaves when the next one is used. Locking needs a limit
/// (RLIMIT_MEMLOCK) of that size.
class pinned {
 public:
  explicit pinned(std::size_t budget) noexcept : budget_(budget) {}
  pinned(pinned&& other) noexcept : budget_(other.budget_) {}  // before `start`

  [[nodiscard]] result<void> start(std::span<const std::size_t> bytes,
                                   function_ref<result<void>(std::size_t)> pin) {
    CRAYON_CHECK(residency::check_budget(bytes, budget_));
    std::vector<std::size_t> largest_after(bytes.size() + 1, 0);
    for (std::size_t i = bytes.size(); i > 0; --i) {
      largest_after[i - 1] = std::max(bytes[i - 1], largest_after[i]);
    }
    std::size_t held = 0;
    while (pinned_ < bytes.size() &&
           held + bytes[pinned_] + largest_after[pinned_ + 1] <= budget_) {
      CRAYON_CHECK(pin(pinned_));
      held += bytes[pinned_++];
    }
    return {};
  }

  void use(std::size_t site, function_ref<void(std::size_t)> let_go) noexcept {
    if (site < pinned_) return;
    const std::lock_guard lock(mutex_);
    if (passing_ != none && passing_ != site) let_go(passing_);
    passing_ = site;
  }

  /// Sites that stay: the first ones of the pool.
  [[nodiscard]] std::size_t sites() const noexcept { return pinned_; }

 private:
  static constexpr std::size_t none = ~std::size_t{0};

  std::size_t budget_;
  std::size_t pinned_ = 0;
  std::size_t passing_ = none;
  std::mutex mutex_;
};
static_assert(residency_policy<pinned>);

}  // namespace crayon::adapter
