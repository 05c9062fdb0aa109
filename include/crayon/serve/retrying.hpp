// SPDX-License-Identifier: MIT
// Asks again, as long as nothing of an answer has come and the deadline allows it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <crayon/core/rng.hpp>
#include <crayon/serve/retry_after.hpp>
#include <crayon/serve/time_source.hpp>
#include <crayon/serve/transport.hpp>

namespace crayon::serve {

struct retry_options {
  std::size_t retries = 2;                   ///< attempts after the first
  std::chrono::milliseconds base{100};       ///< the wait before retry k is uniform in
  std::chrono::milliseconds longest{2'000};  ///< [0, min(longest, base 2^k)), k = 0, 1, ...
  std::uint64_t seed = 0;                    ///< of these waits; 0: another one for each client
};

/// A status that says "not now" rather than "not like this".
[[nodiscard]] constexpr bool is_transient(int status) noexcept {
  return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
}

/// One transport over another. A request is sent again after an error of the network or a limit on
/// waiting, and after HTTP 408, 429, 500, 502, 503 and 504; never once a byte of another response
/// has been handed on, never after a certificate that was refused, a cancellation or an open
/// circuit. Waits are drawn with full jitter (Brooker, "Exponential Backoff And Jitter", 2015), on
/// top of what Retry-After asks for. Where the next attempt would begin after the deadline, the
/// last failure is returned at once.
template <transport Transport, time_source Time = machine_time>
class retrying {
 public:
  explicit retrying(Transport inner = Transport{}, retry_options options = {}, Time time = Time{})
      : inner_(std::move(inner)),
        time_(std::move(time)),
        options_(options),
        random_(options.seed != 0 ? options.seed : random_seed()) {}

  [[nodiscard]] result<http_response> post(const http_request& request, body_sink sink) {
    for (std::size_t retries = 0;; ++retries) {
      bool begun = false;
      std::string page;  // of a response that is handed on only if it is the last one
      const auto hold = [&](const response_head& head, std::string_view bytes) {
        if (!is_transient(head.status)) {
          begun = true;
          return sink(head, bytes);
        }
        page += bytes.substr(0, longest_page - page.size());
        return page.size() < longest_page;
      };
      auto response = inner_.post(request, hold);
      if (begun) return response;
      const bool again =
          retries < options_.retries && may_be_repeated(response) && !is_cancelled(request);
      const auto next = time_.now() + (again ? wait(response, retries) : clock::duration{});
      if (again && next < request.deadline) {
        time_.wait_until(next, request.cancelled);
        if (!is_cancelled(request)) continue;
        return error{errc::cancelled, request.url + ": cancelled by the caller"};
      }
      if (response && !page.empty()) sink(response->head, page);
      if (!response && retries > 0) {
        return error{response.error().code,
                     response.error().text + " (attempt " + std::to_string(retries + 1) + ')'};
      }
      return response;
    }
  }

 private:
  static constexpr std::size_t longest_page = 65536;

  /// Enough for devices not to wait in step: the clocks in nanoseconds, and where memory lies.
  [[nodiscard]] std::uint64_t random_seed() const {
    const auto ticks = clock::now().time_since_epoch().count();
    const auto date = std::chrono::system_clock::now().time_since_epoch().count();
    rng mixed(static_cast<std::uint64_t>(date) ^ reinterpret_cast<std::uintptr_t>(this));
    return mixed() ^ rng(static_cast<std::uint64_t>(ticks))();
  }

  [[nodiscard]] static bool may_be_repeated(const result<http_response>& response) noexcept {
    if (response) return is_transient(response->head.status);
    return response.error().code == errc::network_failed ||
           response.error().code == errc::timed_out;
  }

  [[nodiscard]] clock::duration wait(const result<http_response>& response, std::size_t retries) {
    const auto doubled = options_.base * (std::int64_t{1} << std::min<std::size_t>(retries, 20));
    clock::duration chosen = std::chrono::duration_cast<clock::duration>(
        std::min<std::chrono::milliseconds>(doubled, options_.longest) *
        static_cast<double>(random_.uniform()));
    if (response) {
      const auto asked = retry_delay(response->head.retry_after, response->head.date, time_.date());
      if (asked) chosen += *asked;
    }
    return chosen;
  }

  Transport inner_;
  [[no_unique_address]] Time time_;
  retry_options options_;
  rng random_;
};

}  // namespace crayon::serve
