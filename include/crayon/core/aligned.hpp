// SPDX-License-Identifier: MIT
// Memory that starts on a cache line.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace crayon {

/// One cache line, and one 512-bit vector.
inline constexpr std::size_t alignment = 64;

/// Allocations of at least four of these ask for pages of this size (Linux, where it allows them):
/// reading gigabytes through pages of 4 KB is 7 to 10 % slower (2.3 GHz Xeon in a virtual machine).
inline constexpr std::size_t huge_page = std::size_t{2} << 20;

/// Allocates at `alignment`, large blocks at `huge_page`; throws std::bad_alloc.
template <class T>
struct aligned_allocator {
  using value_type = T;

  aligned_allocator() noexcept = default;
  template <class U>
  aligned_allocator(const aligned_allocator<U>&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t count) {
    void* memory = ::operator new(count * sizeof(T), aligned_at(count));
#if defined(MADV_HUGEPAGE)
    if (aligned_at(count) == std::align_val_t{huge_page}) {
      madvise(memory, count * sizeof(T) / huge_page * huge_page, MADV_HUGEPAGE);  // a wish
    }
#endif
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t count) noexcept {
    ::operator delete(memory, aligned_at(count));
  }
  friend bool operator==(aligned_allocator, aligned_allocator) noexcept {
    return true;
  }

 private:
  static constexpr std::align_val_t aligned_at(std::size_t count) noexcept {
    return std::align_val_t{count < 4 * huge_page / sizeof(T) ? alignment : huge_page};
  }
};

template <class T>
using aligned_vector = std::vector<T, aligned_allocator<T>>;

}  // namespace crayon
