// SPDX-License-Identifier: MIT
// What a hybrid engine gives back: a text, and how it came about.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <crayon/concepts.hpp>
#include <crayon/router/decision.hpp>

namespace crayon::engine {

/// Whose text the caller has.
enum class answer_source : std::uint8_t {
  device,
  server,
  device_after_failure,  ///< the server was asked and failed; the device answered
  server_cut_off,        ///< the server failed after pieces of its answer had been handed on
};

/// Why it was that one.
enum class route_reason : std::uint8_t {
  confident,       ///< the router kept the answer on the device
  before_answer,   ///< the router sent the query after prefill
  at_first_token,  ///< the router sent the query after the device's first token
  during_answer,   ///< the router sent the query after more of the device's tokens
  after_answer,    ///< the router sent the query after it had seen the device's answer
  device_refused,  ///< the device could not take the prompt: too long for its context
  is_private,      ///< a private prompt: the router was not asked
};

[[nodiscard]] constexpr std::string_view name(answer_source source) noexcept {
  switch (source) {
    case answer_source::device:
      return "device";
    case answer_source::server:
      return "server";
    case answer_source::device_after_failure:
      return "device_after_failure";
    case answer_source::server_cut_off:
      return "server_cut_off";
  }
  return "?";
}

[[nodiscard]] constexpr std::string_view name(route_reason reason) noexcept {
  switch (reason) {
    case route_reason::confident:
      return "confident";
    case route_reason::before_answer:
      return "before_answer";
    case route_reason::at_first_token:
      return "at_first_token";
    case route_reason::during_answer:
      return "during_answer";
    case route_reason::after_answer:
      return "after_answer";
    case route_reason::device_refused:
      return "device_refused";
    case route_reason::is_private:
      return "is_private";
  }
  return "?";
}

/// How an answer came about.
struct answer_record {
  answer_source source = answer_source::device;
  route_reason reason = route_reason::confident;
  signals seen{};  ///< what the router decided on last
  /// What the router said last, and why: which signal, its score, its threshold, what that
  /// promises. A router that does not explain itself leaves all but `to` empty.
  router::decision decided;
  /// The device's answer, kept by a threshold with a promise when the score was due that the
  /// promise is about. False: nothing is promised of this answer, or it is the server's.
  bool under_promise = false;
  std::size_t attempts = 0;       ///< requests sent to the server
  std::size_t bytes_sent = 0;     ///< of these requests
  std::string server;             ///< whose answer or failure it was, a URL; empty: not asked
  std::string server_error;       ///< one line; empty: the server did not fail or was not asked
  std::size_t prompt_tokens = 0;  ///< as the source counts them; 0: it did not say
  std::size_t tokens = 0;         ///< of the answer, likewise
  std::size_t wasted_tokens = 0;  ///< generated on the device for an answer that was not used
  double wasted_ms = 0;           ///< the device's time for it, reading the prompt included
  double milliseconds = 0;        ///< of the whole call
  double server_ms = 0;           ///< of it, waiting for the server
  /// Of the call's deadline, below 0 where it was late by that much; NaN: it had none.
  double deadline_left_ms = std::numeric_limits<double>::quiet_NaN();
};

struct hybrid_answer {
  std::string text;
  answer_record record;
};

}  // namespace crayon::engine
