// SPDX-License-Identifier: MIT
#include "server_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace crayon::demo {

server_process::server_process(pid_t pid, int output, std::string url)
    : pid_(pid), output_(output), url_(std::move(url)) {}

server_process::server_process(server_process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      output_(std::exchange(other.output_, -1)),
      url_(std::move(other.url_)) {}

result<server_process> server_process::start(const std::vector<std::string>& arguments) {
  std::vector<std::string> line{"/proc/self/exe", "serve"};
  line.insert(line.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& a : line) argv.push_back(a.data());
  argv.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return error{errc::io_failed, std::string("cannot make a pipe: ") + std::strerror(errno)};
  }
  const pid_t pid = ::fork();
  if (pid < 0) {
    ::close(ends[0]);
    ::close(ends[1]);
    return error{errc::io_failed, std::string("cannot start a server: ") + std::strerror(errno)};
  }
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(ends[1], STDOUT_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  server_process started(pid, ends[0], {});
  char c = 0;
  while (::read(ends[0], &c, 1) == 1 && c != '\n') started.url_ += c;
  if (c != '\n' || !started.url_.starts_with("http://")) {
    return error{errc::io_failed,
                 "the server ended before it listened; it printed \"" + started.url_ + "\""};
  }
  return started;
}

void server_process::kill() noexcept {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  if (output_ >= 0) ::close(std::exchange(output_, -1));
}

}  // namespace crayon::demo
