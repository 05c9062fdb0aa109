// SPDX-License-Identifier: MIT
// Memory that starts on a cache line.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace crayon {

/// One cache line, and one 512-bit vector.
inline constexpr std::size_t alignment = 64;

/// Allocates at `alignment`; throws std::bad_alloc.
template <class T>
struct aligned_allocator {
  using value_type = T;

  aligned_allocator() noexcept = default;
  template <class U>
  aligned_allocator(const aligned_allocator<U>&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{alignment}));
  }
  void deallocate(T* memory, std::size_t) noexcept {
    ::operator delete(memory, std::align_val_t{alignment});
  }
  friend bool operator==(aligned_allocator, aligned_allocator) noexcept { return true; }
};

template <class T>
using aligned_vector = std::vector<T, aligned_allocator<T>>;

}  // namespace crayon
