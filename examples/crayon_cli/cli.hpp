// SPDX-License-Identifier: MIT
// What the commands share: the report, the progress bar, the clock.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace crayon::cli {

/// The machine-readable report of one run, in the order in which it was filled.
using json = nlohmann::ordered_json;

/// `--model` and `--tokenizer`.
struct model_options {
  std::string model;
  std::string tokenizer;  ///< empty: tokenizer.bin beside the model
};

/// A bar on stderr for work that takes longer than a second; nothing where stderr is no terminal.
class progress_bar {
 public:
  explicit progress_bar(std::string label);
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar();

  /// `done` of `total`; `note` stands behind the bar. The time left is that of the work since the
  /// first call, which may have found some done.
  void show(std::size_t done, std::size_t total, const std::string& note = {});

 private:
  using clock = std::chrono::steady_clock;
  static constexpr std::size_t none = ~std::size_t{0};

  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  std::size_t before_ = none;  ///< done at the first call
  clock::time_point start_ = clock::now();
  clock::time_point last_ = start_;
};

/// Progress of training in stages: a bar each, with the loss and tokens per second.
class training_bar {
 public:
  void show(std::string_view stage, std::size_t step, std::size_t steps, double loss,
            double tokens_per_second);

 private:
  std::string stage_;
  std::optional<progress_bar> bar_;
  double mean_ = 0;
};

/// The most memory that the process has had so far, in bytes.
[[nodiscard]] std::size_t peak_memory();

/// Seconds since it was made.
class stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace crayon::cli
