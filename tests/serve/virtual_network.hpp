// SPDX-License-Identifier: MIT
// Servers that exist in memory and answer in no time: hours of waiting take microseconds.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/serve/time_source.hpp>
#include <crayon/serve/transport.hpp>

namespace crayon::test {

using virtual_ms = std::chrono::milliseconds;

/// One clock for a client and its servers. It stands still except in waits.
struct virtual_world {
  serve::clock::time_point now{std::chrono::hours(1)};
  std::chrono::system_clock::time_point date{std::chrono::hours(24 * 365)};
  serve::clock::time_point cancel_at = serve::clock::time_point::max();
  std::atomic<bool> cancelled{false};
  std::vector<virtual_ms> waits = {};  ///< of the policies, not of the servers

  /// False: the caller cancels before that.
  bool advance(serve::clock::time_point when) {
    const auto until = std::max(now, std::min(when, cancel_at));
    date += std::chrono::duration_cast<std::chrono::system_clock::duration>(until - now);
    now = until;
    if (now < cancel_at) return true;
    cancelled = true;
    return false;
  }
};

struct virtual_time {
  virtual_world* world;
  [[nodiscard]] serve::clock::time_point now() const { return world->now; }
  [[nodiscard]] std::chrono::system_clock::time_point date() const { return world->date; }
  void wait_until(serve::clock::time_point when, const std::atomic<bool>*) const {
    world->waits.push_back(std::chrono::ceil<virtual_ms>(when - world->now));
    world->advance(when);
  }
};
static_assert(serve::time_source<virtual_time>);

/// What a server does with one request.
struct virtual_exchange {
  struct part {
    virtual_ms after{};
    std::string bytes;
  };
  enum class end { complete, cut, silence };

  virtual_ms connects{1};
  bool refused = false;  ///< nobody listens: nothing is sent
  serve::response_head head{200, "text/event-stream"};
  std::vector<part> parts = {};
  end ends = end::complete;
  errc code = errc::network_failed;  ///< of a refusal
};

/// Exchange k for request k, as `next` says.
class virtual_transport {
 public:
  virtual_transport(virtual_world& world,
                    std::function<virtual_exchange(const serve::http_request&)> next)
      : world_(&world), next_(std::move(next)) {}

  [[nodiscard]] result<serve::http_response> post(const serve::http_request& request,
                                                  serve::body_sink sink) {
    serve::traffic ignored;
    auto& counted = request.counted != nullptr ? *request.counted : ignored;
    const auto begun = world_->now;
    serve::http_response response;
    const virtual_exchange what = next_(request);
    const auto failed = [&](errc code, const char* why) {
      return error{code, request.url + ": " + why};
    };
    const auto limit = [](virtual_ms most, serve::clock::time_point from) {
      return most.count() == 0 ? serve::clock::time_point::max() : from + most;
    };
    ++counted.attempts;
    const auto connect_by = std::min(request.deadline, limit(request.limits.connect, begun));
    const auto connected = begun + what.connects;
    if (!world_->advance(std::min(connected, connect_by))) {
      return failed(errc::cancelled, "cancelled");
    }
    if (connected > connect_by) return failed(errc::timed_out, "no connection");
    if (what.refused) return failed(what.code, "refused");
    ++counted.connections;
    counted.bytes_sent += request.body.size();
    response.head = what.head;
    auto last = world_->now;
    const auto forever = world_->now + std::chrono::hours(10'000);
    for (std::size_t i = 0; i <= what.parts.size(); ++i) {
      const bool over = i == what.parts.size();
      if (over && what.ends != virtual_exchange::end::silence) break;
      const bool answering = request.answering ? *request.answering : response.bytes > 0;
      const auto by =
          std::min(request.deadline, answering ? limit(request.limits.idle, last)
                                               : limit(request.limits.first_token, begun));
      const auto when = over ? forever : world_->now + what.parts[i].after;
      if (!world_->advance(std::min(when, by))) return failed(errc::cancelled, "cancelled");
      if (when > by) return failed(errc::timed_out, "too late");
      last = world_->now;
      const std::string& bytes = what.parts[i].bytes;
      response.bytes += bytes.size();
      counted.bytes_received += bytes.size();
      if (response.bytes > request.max_response_bytes) {
        return failed(errc::network_failed, "too long");
      }
      if (!sink(response.head, bytes)) return response;
    }
    if (what.ends == virtual_exchange::end::cut) return failed(errc::network_failed, "cut");
    return response;
  }

 private:
  virtual_world* world_;
  std::function<virtual_exchange(const serve::http_request&)> next_;
};
static_assert(serve::transport<virtual_transport>);

}  // namespace crayon::test
