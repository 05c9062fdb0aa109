// SPDX-License-Identifier: MIT
// A server that does what a test tells it, right or wrong.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace crayon::test {

/// One step after a request was read: wait, then send.
struct step {
  int wait_ms = 0;
  std::string send;
  int times = 1;
};

struct script {
  std::vector<step> steps;
  bool hold = false;   ///< keep the connection open and silent at the end, else close it
  bool reset = false;  ///< close it with a TCP reset
};

/// Listens on a free loopback port and runs script k on request k, the last one also on all after.
class scripted_server {
 public:
  explicit scripted_server(script first, std::vector<script> then = {})
      : scripts_(std::move(then)) {
    scripts_.insert(scripts_.begin(), std::move(first));
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener_, generic, size) == 0 && listen(listener_, 8) == 0 &&
        getsockname(listener_, generic, &size) == 0) {
      port_ = ntohs(address.sin_port);
    }
    thread_ = std::thread([this] { run(); });
  }
  ~scripted_server() {
    stopping_ = true;
    thread_.join();
    close(listener_);
  }
  scripted_server(const scripted_server&) = delete;
  scripted_server& operator=(const scripted_server&) = delete;

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] int connections() const { return connections_; }
  [[nodiscard]] int requests() const { return requests_; }
  [[nodiscard]] std::size_t bytes_received() const { return bytes_received_; }
  [[nodiscard]] std::string last_request() const {
    const std::lock_guard lock(mutex_);
    return request_;
  }

 private:
  [[nodiscard]] bool readable(int fd, int ms) const {
    pollfd one{fd, POLLIN, 0};
    return poll(&one, 1, ms) > 0;
  }

  void run() {
    while (!stopping_) {
      if (!readable(listener_, 5)) continue;
      const int connection = accept(listener_, nullptr, nullptr);
      ++connections_;
      bool reset = false;
      while (read_request(connection)) {
        const std::size_t next =
            std::min(static_cast<std::size_t>(requests_++), scripts_.size() - 1);
        reset = scripts_[next].reset;
        if (!answer(scripts_[next], connection)) break;
      }
      if (reset) {
        const linger at_once{1, 0};
        setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
      }
      close(connection);
    }
  }

  bool read_request(int connection) {
    std::string text;
    std::size_t whole = std::string::npos;
    while (!stopping_ && text.size() < whole) {
      if (!readable(connection, 5)) continue;
      char buffer[4096];
      const auto count = recv(connection, buffer, sizeof buffer, 0);
      if (count <= 0) return false;
      text.append(buffer, static_cast<std::size_t>(count));
      bytes_received_ += static_cast<std::size_t>(count);
      const auto head = text.find("\r\n\r\n");
      if (head == std::string::npos) continue;
      const auto length = text.find("Content-Length: ");
      whole = head + 4 + (length < head ? std::stoul(text.substr(length + 16)) : 0);
    }
    const std::lock_guard lock(mutex_);
    request_ = text;
    return !stopping_;
  }

  [[nodiscard]] bool send_all(int connection, std::string_view bytes) const {
    while (!stopping_ && !bytes.empty()) {
      pollfd one{connection, POLLOUT, 0};
      if (poll(&one, 1, 5) <= 0) continue;
      const auto count = send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count < 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return !stopping_;
  }

  /// True: the connection stays good for another request.
  bool answer(const script& what, int connection) {
    for (const auto& one : what.steps) {
      for (int i = 0; i < one.times; ++i) {
        const auto until =
            std::chrono::steady_clock::now() + std::chrono::milliseconds(one.wait_ms);
        while (!stopping_ && std::chrono::steady_clock::now() < until) {
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        if (stopping_ || !send_all(connection, one.send)) return false;
      }
    }
    while (what.hold && !stopping_) {
      if (!readable(connection, 5)) continue;
      char byte;
      if (recv(connection, &byte, 1, MSG_PEEK) <= 0) return false;
      return true;
    }
    return false;
  }

  std::vector<script> scripts_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> connections_{0};
  std::atomic<int> requests_{0};
  std::atomic<std::size_t> bytes_received_{0};
  mutable std::mutex mutex_;
  std::string request_;
  std::thread thread_;
};

}  // namespace crayon::test
