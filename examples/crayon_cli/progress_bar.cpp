// SPDX-License-Identifier: MIT
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "cli.hpp"

namespace crayon::cli {

progress_bar::progress_bar(std::string label, std::size_t before)
    : label_(std::move(label)), terminal_(::isatty(STDERR_FILENO) == 1), before_(before) {}

progress_bar::~progress_bar() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void progress_bar::show(std::size_t done, std::size_t total, const std::string& note) {
  using namespace std::chrono_literals;
  const auto now = clock::now();
  if (!terminal_ || total == 0 || done <= before_) return;
  if (now - start_ < 1s || now - last_ < 100ms) return;
  last_ = now;
  drawn_ = true;
  constexpr std::size_t width = 30;
  const std::size_t filled = width * done / total;
  const std::string bar = std::string(filled, '#') + std::string(width - filled, '.');
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double left =
      elapsed * static_cast<double>(total - done) / static_cast<double>(done - before_);
  std::fprintf(stderr, "\r\033[K%s [%s] %zu/%zu, %.0f s left%s%s", label_.c_str(), bar.c_str(),
               done, total, left, note.empty() ? "" : ", ", note.c_str());
  std::fflush(stderr);
}

void training_bar::show(std::string_view stage, std::size_t step, std::size_t steps, double loss,
                        double tokens_per_second) {
  if (stage != stage_ || !bar_) {
    stage_ = stage;
    bar_.emplace(stage_, step + 1);
    mean_ = loss;
  }
  mean_ += 0.05 * (loss - mean_);
  char note[96];
  std::snprintf(note, sizeof note, "loss %.3f, %.0f tokens/s", mean_, tokens_per_second);
  bar_->show(step + 1, steps, note);
}

std::size_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

std::size_t free_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string name, unit; file >> name;) {
    std::size_t kilobytes = 0;
    if (!(file >> kilobytes)) break;
    if (name == "MemAvailable:") return kilobytes * 1024;
    std::getline(file, unit);
  }
  return 0;
}

}  // namespace crayon::cli
