// SPDX-License-Identifier: MIT
// What the commands share: the report, the progress bar, the clock.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <crayon/core/result.hpp>

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
  /// `before` of the work was done before the bar was made.
  explicit progress_bar(std::string label, std::size_t before = 0);
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar();

  /// `done` of `total`; `note` stands behind the bar. The time left is told from the work since the
  /// bar was made.
  void show(std::size_t done, std::size_t total, const std::string& note = {});

 private:
  using clock = std::chrono::steady_clock;

  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  std::size_t before_;
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

/// Bytes that the machine has left for a program; 0: not known.
[[nodiscard]] std::size_t free_memory();

/// Whether a file, or a directory, of that name can be written: known before the work. No name, no
/// error.
[[nodiscard]] result<void> check_output_file(const std::string& path);
[[nodiscard]] result<void> check_output_directory(const std::string& path);

/// "1 sample", "2 samples"
[[nodiscard]] inline std::string counted(std::size_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

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
