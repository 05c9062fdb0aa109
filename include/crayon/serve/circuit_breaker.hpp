// SPDX-License-Identifier: MIT
// Does not ask a server that fails all the time, but looks now and then whether it is back.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include <crayon/serve/time_source.hpp>
#include <crayon/serve/transport.hpp>

namespace crayon::serve {

struct circuit_options {
  std::size_t failures = 5;                   ///< in a row: the circuit opens
  std::chrono::milliseconds open{5'000};      ///< for so long, then one request may try
  std::chrono::milliseconds longest{60'000};  ///< each try that fails doubles it, up to this
};

enum class circuit_state : std::uint8_t {
  closed,     ///< requests go through
  open,       ///< none goes through
  half_open,  ///< one is on its way, the others wait for what becomes of it
};

/// The health of one endpoint, for any number of threads. A failure is an exchange that ended in an
/// error, limits on waiting included, an HTTP status of 500 and above, or a page of HTML that is no
/// error: the sign-in page of a network stands before the server. Another response below 500 is a
/// success, 429 too: that server is alive, and Retry-After says the rest. What the caller cancelled
/// counts as neither.
class circuit {
 public:
  explicit circuit(circuit_options options = {}) : options_(options) {}

  /// What becomes of one request. Without a word on its end it counts as cancelled. The end of a
  /// request that began before the circuit last opened, or was tried, says nothing of today.
  class ticket {
   public:
    explicit ticket(circuit* owner) : owner_(owner), epoch_(owner->epoch()) {}
    ticket(const ticket&) = delete;
    ticket& operator=(const ticket&) = delete;
    ~ticket() {
      if (owner_ != nullptr) owner_->abandoned(epoch_);
    }
    void succeeded() { std::exchange(owner_, nullptr)->success(epoch_); }
    void failed(clock::time_point now, std::string_view why) {
      std::exchange(owner_, nullptr)->failure(epoch_, now, why);
    }

   private:
    circuit* owner_;
    std::size_t epoch_;
  };

  /// True: send it, and tell a ticket of this circuit how it ended.
  [[nodiscard]] bool admits(clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (state_ == circuit_state::open && now >= until_) {
      enter(circuit_state::half_open);
      return true;
    }
    return state_ == circuit_state::closed;
  }

  [[nodiscard]] circuit_state state() const {
    const std::lock_guard lock(mutex_);
    return state_;
  }

  /// Why it is not closed, for one line of an error.
  [[nodiscard]] std::string reason(clock::time_point now) const {
    const std::lock_guard lock(mutex_);
    std::string text = "not asked: it failed " + std::to_string(failures_) + " times in a row";
    if (state_ == circuit_state::half_open) {
      text += " and is being tried by another request";
    } else {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until_ - now).count();
      text += ", the next try is in " + std::to_string(left) + " ms";
    }
    return text + "; last " + last_;
  }

 private:
  void enter(circuit_state next) {
    state_ = next;
    ++epoch_;
  }

  [[nodiscard]] std::size_t epoch() const {
    const std::lock_guard lock(mutex_);
    return epoch_;
  }

  void success(std::size_t begun) {
    const std::lock_guard lock(mutex_);
    if (begun != epoch_) return;
    if (state_ != circuit_state::closed) enter(circuit_state::closed);
    failures_ = 0;
  }

  void failure(std::size_t begun, clock::time_point now, std::string_view why) {
    const std::lock_guard lock(mutex_);
    if (begun != epoch_) return;
    ++failures_;
    last_ = why;
    if (state_ == circuit_state::half_open) {
      span_ = std::min(2 * span_, std::max(options_.longest, options_.open));
    } else if (failures_ >= options_.failures) {
      span_ = options_.open;
    } else {
      return;
    }
    enter(circuit_state::open);
    until_ = now + span_;
  }

  void abandoned(std::size_t begun) {
    const std::lock_guard lock(mutex_);
    if (begun != epoch_) return;
    if (state_ == circuit_state::half_open) enter(circuit_state::open);  // the next one may try
  }

  circuit_options options_;
  mutable std::mutex mutex_;
  circuit_state state_ = circuit_state::closed;
  std::size_t epoch_ = 0;  // of the state
  std::size_t failures_ = 0;
  std::chrono::milliseconds span_{};
  clock::time_point until_;
  std::string last_;
};

/// One transport over another, to one endpoint. Clients of the same endpoint may share a circuit.
/// The error while it is open is `errc::unavailable`; nothing is sent.
template <transport Transport, time_source Time = machine_time>
class circuit_breaker {
 public:
  explicit circuit_breaker(Transport inner = Transport{}, circuit_options options = {},
                           Time time = Time{})
      : circuit_breaker(std::move(inner), std::make_shared<circuit>(options), std::move(time)) {}
  circuit_breaker(Transport inner, std::shared_ptr<circuit> shared, Time time = Time{})
      : inner_(std::move(inner)), circuit_(std::move(shared)), time_(std::move(time)) {}

  [[nodiscard]] result<http_response> post(const http_request& request, body_sink sink) {
    if (!circuit_->admits(time_.now())) {
      return error{errc::unavailable, request.url + ": " + circuit_->reason(time_.now())};
    }
    circuit::ticket end(circuit_.get());
    auto response = inner_.post(request, sink);
    if (!response) {
      std::string_view why = response.error().text;
      if (why.starts_with(request.url + ": ")) why.remove_prefix(request.url.size() + 2);
      if (response.error().code != errc::cancelled) end.failed(time_.now(), why);
    } else if (response->head.status >= 500) {
      end.failed(time_.now(), "HTTP " + std::to_string(response->head.status));
    } else if (response->head.status < 400 &&
               response->head.content_type.starts_with("text/html")) {
      end.failed(time_.now(), "a page of HTML");
    } else {
      end.succeeded();
    }
    return response;
  }

  [[nodiscard]] circuit_state state() const { return circuit_->state(); }

 private:
  Transport inner_;
  std::shared_ptr<circuit> circuit_;
  [[no_unique_address]] Time time_;
};

}  // namespace crayon::serve
