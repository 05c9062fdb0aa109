// SPDX-License-Identifier: MIT
// `crayon serve` in a process of its own.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include <crayon/core/result.hpp>

namespace crayon::demo {

/// Runs this program again with other arguments; it is killed when the owner goes.
class server_process {
 public:
  /// Starts `crayon serve <arguments>` and waits until it prints where it listens. Errors: it could
  /// not start, or ended before.
  [[nodiscard]] static result<server_process> start(const std::vector<std::string>& arguments);

  server_process(server_process&& other) noexcept;
  server_process& operator=(server_process&& other) = delete;
  ~server_process() { kill(); }

  /// "http://127.0.0.1:40231/v1"
  [[nodiscard]] const std::string& url() const noexcept { return url_; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

  /// SIGKILL: no goodbye, as when a machine goes away.
  void kill() noexcept;

 private:
  server_process(pid_t pid, int output, std::string url);

  pid_t pid_;
  int output_;
  std::string url_;
};

}  // namespace crayon::demo
