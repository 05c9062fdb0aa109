// SPDX-License-Identifier: MIT
// An HTTP server whose threads a slow client cannot hold.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <string>
#include <utility>

#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <crayon/serve/openai_answer.hpp>

namespace crayon::serve {

/// How long a connection may hold a thread without a request being answered meanwhile.
struct connection_limits {
  std::chrono::milliseconds read{10'000};   ///< first to last byte of a request; then HTTP 408
  std::chrono::milliseconds crowded{500};   ///< the same, and `idle`, where others need its thread
  std::chrono::milliseconds write{10'000};  ///< an answer waits for its reader, all waits together
  std::chrono::milliseconds idle{5'000};    ///< between two requests
};

namespace detail {

/// What the connections of a server share.
struct connections {
  std::atomic<std::ptrdiff_t> waiting{0};  // accepted, without a thread
  std::atomic<std::ptrdiff_t> leaving{0};  // about to give theirs to them
  std::atomic<bool> closing{false};        // nothing is read any more
  std::atomic<bool> cut{false};            // nor written

  /// True for as many callers as wait.
  [[nodiscard]] bool give_way() noexcept {
    auto now = leaving.load();
    while (now < waiting.load()) {
      if (leaving.compare_exchange_weak(now, now + 1)) return true;
    }
    return false;
  }
};

/// A connection as the HTTP library reads and writes it. Without `override`, as the base class of
/// 0.11 does not have all that later ones ask for.
class deadline_stream final : public httplib::Stream {
 public:
  deadline_stream(socket_t socket, const connection_limits& limits, connections& shared,
                  std::size_t most_bytes)
      : socket_(socket), limits_(limits), shared_(shared), most_bytes_(most_bytes) {}
  deadline_stream(const deadline_stream&) = delete;
  deadline_stream& operator=(const deadline_stream&) = delete;
  ~deadline_stream() {
    if (late_ && started_) {
      late_ = false;
      refuse();
    } else if (unread_) {
      drain();
    }
    ::shutdown(socket_, SHUT_RDWR);
    ::close(socket_);
    if (leaves_) --shared_.leaving;
  }

  /// Waits for the first byte of a request; false: there is none.
  [[nodiscard]] bool begin() {
    started_ = false;
    set_deadline(limits_.idle);
    if (at_ == end_ && fill() <= 0) return false;
    started_ = true;
    set_deadline(limits_.read);
    bytes_left_ = most_bytes_;
    write_left_ = limits_.write;
    return true;
  }

  /// What was asked is not all read, and will not be.
  void leave_unread() noexcept { unread_ = true; }
  [[nodiscard]] bool usable() const noexcept { return !late_ && !unread_ && !broken_; }

  ssize_t read(char* to, size_t size) {
    if (bytes_left_ == 0) unread_ = true;
    if (unread_) return -1;
    if (at_ == end_) {
      if (const ssize_t got = fill(); got <= 0) return got;
    }
    const std::size_t n = std::min({size, end_ - at_, bytes_left_});
    std::copy_n(buffer_.data() + at_, n, to);
    at_ += n;
    bytes_left_ -= n;
    return static_cast<ssize_t>(n);
  }

  ssize_t write(const char* from, size_t size) {
    if (late_) return static_cast<ssize_t>(size);  // the library's 400; see refuse()
    std::size_t done = 0;
    while (!broken_ && done < size) {
      const ssize_t n = ::send(socket_, from + done, size - done, MSG_DONTWAIT);
      if (n >= 0) {
        done += static_cast<std::size_t>(n);
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        const auto start = clock::now();
        wait(POLLOUT, write_left_);
        write_left_ -= clock::now() - start;
        broken_ = write_left_ <= write_left_.zero();
      } else {
        broken_ = errno != EINTR;
      }
      broken_ = broken_ || shared_.cut;
    }
    return broken_ ? -1 : static_cast<ssize_t>(size);
  }

  [[nodiscard]] bool is_readable() const { return true; }
  [[nodiscard]] bool is_writable() const { return !broken_; }  // `write` does the waiting
  [[nodiscard]] bool wait_readable() const { return true; }
  [[nodiscard]] bool wait_writable() const { return !broken_; }
  void get_remote_ip_and_port(std::string&, int&) const {}  // no route asks
  void get_local_ip_and_port(std::string&, int&) const {}
  [[nodiscard]] socket_t socket() const { return socket_; }
  [[nodiscard]] time_t duration() const { return 0; }

 private:
  using clock = std::chrono::steady_clock;

  void set_deadline(std::chrono::milliseconds limit) {
    until_ = clock::now() + limit;
    gives_way_ = clock::now() + std::min(limit, limits_.crowded);
  }

  /// In slices, after which somebody may want the thread.
  void wait(short events, clock::duration most) const {
    const auto slice = std::clamp(std::chrono::ceil<std::chrono::milliseconds>(most),
                                  std::chrono::milliseconds(0), std::chrono::milliseconds(20));
    pollfd one{socket_, events, 0};
    ::poll(&one, 1, static_cast<int>(slice.count()));
  }

  /// What there is of the request, at least a byte; 0: the client sends no more; -1: too late.
  ssize_t fill() {
    while (!late_) {
      const auto now = clock::now();
      if (now >= gives_way_ && !leaves_) leaves_ = shared_.give_way();
      late_ = now >= until_ || leaves_ || shared_.closing;
      if (late_) break;
      const ssize_t n = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (n >= 0) {
        at_ = 0;
        end_ = static_cast<std::size_t>(n);
        return n;
      }
      if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) break;
      wait(POLLIN, until_ - now);
    }
    return -1;
  }

  void refuse() {
    const bool stops = shared_.closing;
    const std::string body = stops ? error_body("the server stops", "server_error", "overloaded")
                                   : error_body("the request did not arrive in time",
                                                "invalid_request_error", "request_timeout");
    const std::string text =
        std::string("HTTP/1.1 ") + (stops ? "503 Service Unavailable" : "408 Request Timeout") +
        "\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body;
    write(text.data(), text.size());
  }

  /// Reads on after the answer: closing a socket with bytes unread would take the answer away.
  void drain() {
    ::shutdown(socket_, SHUT_WR);
    started_ = false;
    set_deadline(std::min<std::chrono::milliseconds>(limits_.read, std::chrono::seconds(1)));
    while (fill() > 0) {
    }
  }

  const socket_t socket_;
  const connection_limits& limits_;
  connections& shared_;
  const std::size_t most_bytes_;
  std::array<char, 4096> buffer_{};
  std::size_t at_ = 0, end_ = 0;  // of the buffer: what was received and not read
  std::size_t bytes_left_ = 0;    // of the request
  clock::time_point until_{}, gives_way_{};
  clock::duration write_left_{};
  bool started_ = false;  // the request has
  bool late_ = false, unread_ = false, broken_ = false, leaves_ = false;
};

}  // namespace detail

/// httplib's server with one deadline for a whole request, header and body, a bound on what an
/// answer waits for its reader, and connections that end when told.
class deadline_server : public httplib::Server {
 public:
  deadline_server(connection_limits limits, std::size_t threads) : limits_(limits) {
    new_task_queue = [this, threads] { return new queue(threads, shared_); };
  }

  /// Once bound: so many connections may wait to be accepted as the machine allows, not 5 as the
  /// library (0.11) has it; the sixth would try again after a second.
  void widen_backlog() noexcept { ::listen(svr_sock_, SOMAXCONN); }
  /// No further request is read; those that were get their answers.
  void close_readers() noexcept { shared_.closing = true; }
  /// All connections end where they are, in at most 20 ms.
  void cut() noexcept { shared_.closing = shared_.cut = true; }

 private:
  /// The library's threads, and how many connections wait for one. std::function is its interface.
  class queue final : public httplib::TaskQueue {
   public:
    using accepted = decltype(std::declval<httplib::TaskQueue&>().enqueue(std::function<void()>()));

    queue(std::size_t threads, detail::connections& shared) : threads_(threads), shared_(shared) {}
    accepted enqueue(std::function<void()> serve) override {
      ++shared_.waiting;
      return threads_.enqueue([this, serve = std::move(serve)] {
        --shared_.waiting;
        serve();
      });
    }
    void shutdown() override { threads_.shutdown(); }

   private:
    httplib::ThreadPool threads_;
    detail::connections& shared_;
  };

  bool process_and_close_socket(socket_t socket) override {
    const std::size_t header_room = std::size_t{64} << 10;
    detail::deadline_stream stream(socket, limits_, shared_, payload_max_length_ + header_room);
    bool good = false;
    for (auto left = keep_alive_max_count_; left > 0 && stream.begin(); --left) {
      bool last = left == 1;
      good = process(*this, stream, last, [&](httplib::Request& in) {
        // Bodies that the library does not read: what follows is no request.
        if (!in.has_header("Transfer-Encoding") &&
            (in.method == "POST" || !in.has_header("Content-Length"))) {
          return;
        }
        stream.leave_unread();
        in.headers.erase("Connection");
        in.headers.emplace("Connection", "close");
      });
      if (!good || last || !stream.usable()) break;
    }
    return good;
  }

  template <class Self, class Seen>
  static bool process(Self& self, httplib::Stream& stream, bool& last, const Seen& seen) {
    const bool close = last;
    if constexpr (requires { self.process_request(stream, close, last, seen); }) {
      return self.process_request(stream, close, last, seen);
    } else {
      return self.process_request(stream, {}, 0, {}, 0, close, last, seen);
    }
  }

  const connection_limits limits_;
  detail::connections shared_;
};

}  // namespace crayon::serve
