// SPDX-License-Identifier: MIT
// Arrays that end (or start) at a page nobody may touch: one element too far is a crash, also
// for vector instructions that sanitizers do not see.
#pragma once

#include <cstddef>
#include <new>
#include <span>

#include <sys/mman.h>
#include <unistd.h>

namespace crayon::test {

enum class guard { behind, before };

/// `count` zeros of T. Guarded behind, the start has whatever alignment the count gives it;
/// guarded before, it lies `shift` elements after the page.
template <class T>
class guarded {
 public:
  explicit guarded(std::size_t count, guard side = guard::behind, std::size_t shift = 0)
      : count_(count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = (count + shift) * sizeof(T);
    const std::size_t usable = (bytes + page - 1) / page * page + page;
    size_ = usable + 2 * page;
    memory_ =
        static_cast<char*>(mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED || mprotect(memory_ + page, usable, PROT_READ | PROT_WRITE) != 0) {
      throw std::bad_alloc();
    }
    char* first = side == guard::behind ? memory_ + page + usable - count * sizeof(T)
                                        : memory_ + page + shift * sizeof(T);
    data_ = reinterpret_cast<T*>(first);
  }
  guarded(const guarded&) = delete;
  guarded& operator=(const guarded&) = delete;
  ~guarded() { munmap(memory_, size_); }

  [[nodiscard]] T* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] T& operator[](std::size_t i) const noexcept { return data_[i]; }
  [[nodiscard]] T* begin() const noexcept { return data_; }
  [[nodiscard]] T* end() const noexcept { return data_ + count_; }

 private:
  std::size_t count_;
  std::size_t size_ = 0;
  char* memory_ = nullptr;
  T* data_ = nullptr;
};

}  // namespace crayon::test
