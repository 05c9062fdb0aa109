// SPDX-License-Identifier: MIT
#include "budget_count.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

namespace crayon::cli {

result<budget_count> budget_count::open(const std::string& path,
                                        const router::call_budget& limits) {
  const auto failed = [&] { return error{errc::io_failed, path + ": " + std::strerror(errno)}; };
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return failed();
  budget_count made(path, file);
  while (::flock(file, LOCK_EX) != 0) {
    if (errno != EINTR) return failed();
  }
  char text[64] = {};
  const auto size = ::pread(file, text, sizeof text - 1, 0);
  if (size < 0) return failed();
  std::size_t queries = 0, calls = 0;
  int end = 0;
  const bool good = std::strchr(text, '-') == nullptr &&  // which %zu takes, and turns around
                    std::sscanf(text, "%zu %zu\n%n", &queries, &calls, &end) == 2 && end == size;
  if (size > 0 && !good) {
    return error{errc::bad_format, path + ": not a budget's counts of queries and calls"};
  }
  made.budget_ =
      std::make_shared<router::call_budget>(limits.share(), limits.burst(), queries, calls);
  return made;
}

budget_count::~budget_count() {
  if (file_ >= 0) ::close(file_);
}

result<void> budget_count::reserve() const {
  return write(budget_->calls() + 1);
}

result<void> budget_count::save() const {
  return write(budget_->calls());
}

result<void> budget_count::write(std::size_t calls) const {
  const std::string text = std::to_string(budget_->queries()) + " " + std::to_string(calls) + "\n";
  // Over what is there: an end between the two leaves no empty file, which would count from 0.
  if (::pwrite(file_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ::ftruncate(file_, static_cast<off_t>(text.size())) != 0) {
    return error{errc::io_failed, path_ + ": " + std::strerror(errno)};
  }
  return {};
}

}  // namespace crayon::cli
