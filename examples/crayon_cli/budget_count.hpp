// SPDX-License-Identifier: MIT
// What a router's budget has seen so far, between one question and the next.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <crayon/core/result.hpp>
#include <crayon/router/budgeted.hpp>

namespace crayon::cli {

/// A file of two counts, queries and calls. Whoever opens it is alone with it until the end; others
/// wait. Made where there is none.
class budget_count {
 public:
  /// Errors: it cannot be opened, or holds something else.
  [[nodiscard]] static result<budget_count> open(const std::string& path,
                                                 const router::call_budget& limits);
  budget_count(budget_count&& other) noexcept
      : path_(std::move(other.path_)),
        file_(std::exchange(other.file_, -1)),
        budget_(std::move(other.budget_)) {}
  budget_count& operator=(budget_count&&) = delete;
  ~budget_count();

  /// The limits, with the counts going on from the file's.
  [[nodiscard]] const std::shared_ptr<router::call_budget>& budget() const noexcept {
    return budget_;
  }
  /// Writes the counts with one more call, which may be made before `save`: a process that ends in
  /// between has rather counted one that was not.
  [[nodiscard]] result<void> reserve() const;
  [[nodiscard]] result<void> save() const;

 private:
  budget_count(std::string path, int file) : path_(std::move(path)), file_(file) {}

  [[nodiscard]] result<void> write(std::size_t calls) const;

  std::string path_;
  int file_;
  std::shared_ptr<router::call_budget> budget_;
};

}  // namespace crayon::cli
