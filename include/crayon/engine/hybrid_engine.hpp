// SPDX-License-Identifier: MIT
// A device that asks a server for what it should not answer itself.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <crayon/concepts.hpp>
#include <crayon/engine/device_engine.hpp>
#include <crayon/engine/private_prompt.hpp>

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
  signals seen{};                 ///< what the router decided on last
  std::size_t attempts = 0;       ///< requests sent to the server
  std::size_t bytes_sent = 0;     ///< of these requests
  std::string server;             ///< whose answer or failure it was, a URL; empty: not asked
  std::string server_error;       ///< one line; empty: the server did not fail or was not asked
  std::size_t prompt_tokens = 0;  ///< as the source counts them; 0: it did not say
  std::size_t tokens = 0;         ///< of the answer, likewise
  std::size_t wasted_tokens = 0;  ///< generated on the device for an answer that was not used
  double milliseconds = 0;        ///< of the whole call
  double server_ms = 0;           ///< of it, waiting for the server
  /// Of the call's deadline, below 0 where it was late by that much; NaN: it had none.
  double deadline_left_ms = std::numeric_limits<double>::quiet_NaN();
};

struct hybrid_answer {
  std::string text;
  answer_record record;
};

struct hybrid_options {
  std::uint32_t server_deadline_ms = 10'000;  ///< how long the server may take, failures included
  /// Of a call's deadline, at most a quarter of what is left: kept for the device's answer in case
  /// the server fails, unless that answer is there already.
  std::uint32_t reserve_ms = 500;
  /// Hand the device's pieces on while they are generated, and do not ask the router again after
  /// the answer: what a caller has seen cannot be taken back. False: the device's answer is handed
  /// on at once, when the router has seen all of it.
  bool stream_device = false;
};

/// The device prefills the prompt and the router looks at it; then either the server is asked, or
/// the device answers and the router looks again. When the server fails, whatever the reason, the
/// device's answer is given, as much of it as the deadline leaves time for and at least one token,
/// unless pieces of the server's answer have been handed on already: then they are what there is,
/// and the record says so. Without a sink nothing is handed on early, and the fallback is always
/// the device.
template <class Config, remote Remote, router_policy Router = typename Config::router>
class hybrid_engine {
 public:
  hybrid_engine(device_engine<Config> device, Router router, Remote server,
                hybrid_options options = {})
      : device_(std::move(device)),
        router_(std::move(router)),
        server_(std::move(server)),
        options_(options) {}

  [[nodiscard]] device_engine<Config>& device() noexcept { return device_; }
  [[nodiscard]] Remote& server() noexcept { return server_; }
  [[nodiscard]] Router& router() noexcept { return router_; }

  /// Errors: both failed. The error is the device's, with the server's behind it.
  [[nodiscard]] result<hybrid_answer> answer(std::string_view prompt,
                                             const generation_options& options = {}) {
    return run(prompt, options, nullptr);
  }
  /// Pieces are handed on as `hybrid_options` says.
  [[nodiscard]] result<hybrid_answer> answer(std::string_view prompt,
                                             const generation_options& options,
                                             piece_sink on_piece) {
    return run(prompt, options, &on_piece);
  }

  /// Answered on the device, or an error: neither the router nor the server learns of it.
  [[nodiscard]] result<hybrid_answer> answer(const private_prompt& prompt,
                                             const generation_options& options = {}) {
    return keep(device_.answer(prompt, options), options);
  }
  [[nodiscard]] result<hybrid_answer> answer(const private_prompt& prompt,
                                             const generation_options& options,
                                             piece_sink on_piece) {
    return keep(device_.answer(prompt, options, on_piece), options);
  }

 private:
  using clock = std::chrono::steady_clock;

  [[nodiscard]] static double milliseconds_since(clock::time_point start) noexcept {
    return std::chrono::duration<double, std::milli>(clock::now() - start).count();
  }

  static void measure(answer_record& record, const generation_options& options, double taken_ms) {
    record.milliseconds = taken_ms;
    if (options.deadline_ms != 0) record.deadline_left_ms = options.deadline_ms - taken_ms;
  }

  [[nodiscard]] static result<hybrid_answer> keep(result<device_answer> own,
                                                  const generation_options& options) {
    if (!own) return own.error();
    hybrid_answer out;
    out.record.reason = route_reason::is_private;
    measure(out.record, options, own->milliseconds);
    take(out, *std::move(own));
    return out;
  }

  static void take(hybrid_answer& out, device_answer own) {
    out.text = std::move(own.text);
    out.record.seen = own.seen;
    out.record.prompt_tokens = own.prompt_tokens;
    out.record.tokens = own.tokens;
  }

  [[nodiscard]] result<hybrid_answer> run(std::string_view prompt,
                                          const generation_options& options, piece_sink* sink) {
    const auto start = clock::now();
    hybrid_answer out;
    answer_record& record = out.record;
    const auto finished = [&]() -> result<hybrid_answer> {
      measure(record, options, milliseconds_since(start));
      // No answer for somebody who has gone.
      if (record.source == answer_source::device_after_failure && options.cancelled != nullptr &&
          options.cancelled->load()) {
        return error{errc::cancelled, record.server_error};
      }
      return std::move(out);
    };

    const result<signals> begun = device_.begin(prompt);
    if (!begun) {
      record.reason = route_reason::device_refused;
      if (ask_server(out, prompt, options, sink, start)) return finished();
      return error{begun.error().code,
                   begun.error().text + "; and the server failed: " + record.server_error};
    }
    record.seen = *begun;
    if (router_.decide(*begun) == route::server) {
      record.reason = route_reason::before_answer;
      if (ask_server(out, prompt, options, sink, start)) return finished();
      record.source = answer_source::device_after_failure;
      take(out, *finish_device(options, sink, record.server_ms));
      return finished();
    }
    const bool stream = options_.stream_device && sink != nullptr;
    device_answer own = *finish_device(options, stream ? sink : nullptr);
    record.seen = own.seen;
    if (!stream && router_.decide(own.seen) == route::server) {
      record.reason = route_reason::after_answer;
      if (ask_server(out, prompt, options, sink, start)) {
        record.wasted_tokens = own.tokens;
        return finished();
      }
      record.source = answer_source::device_after_failure;
    }
    if (!stream && sink != nullptr && !own.text.empty()) (*sink)(own.text);
    take(out, std::move(own));
    return finished();
  }

  /// Cannot fail: it follows a `begin` that did not. The device's deadline does not count the time
  /// between the two, `waited_ms`.
  [[nodiscard]] result<device_answer> finish_device(generation_options options, piece_sink* sink,
                                                    double waited_ms = 0) {
    if (options.deadline_ms != 0) {
      const double left = static_cast<double>(options.deadline_ms) - waited_ms;
      options.deadline_ms = static_cast<std::uint32_t>(std::max(left, 1.0));
    }
    return sink != nullptr ? device_.finish(options, *sink) : device_.finish(options);
  }

  /// True: `out` holds what the caller gets, a whole answer or the part that was handed on.
  [[nodiscard]] bool ask_server(hybrid_answer& out, std::string_view prompt,
                                const generation_options& options, piece_sink* sink,
                                clock::time_point start) {
    answer_record& record = out.record;
    generation_options asked = options;
    asked.deadline_ms = options_.server_deadline_ms;
    if (options.deadline_ms != 0) {
      const double left = static_cast<double>(options.deadline_ms) - milliseconds_since(start);
      if (left < 1) {
        record.server_error = "the server was not asked: the deadline of " +
                              std::to_string(options.deadline_ms) + " ms has passed";
        return false;
      }
      const bool needed = record.reason == route_reason::before_answer;
      const double kept = needed ? std::min<double>(options_.reserve_ms, left / 4) : 0;
      asked.deadline_ms =
          std::min(asked.deadline_ms, static_cast<std::uint32_t>(std::max(left - kept, 1.0)));
    }
    const auto asked_at = clock::now();
    bool handed_on = false;
    const auto pass = [&](std::string_view piece) {
      if (sink == nullptr) return true;
      handed_on = true;
      return (*sink)(piece);
    };
    remote_answer theirs = server_.complete(prompt, asked, pass);
    record.server_ms = milliseconds_since(asked_at);
    record.attempts = theirs.attempts;
    record.bytes_sent = theirs.bytes_sent;
    record.server = std::move(theirs.endpoint);
    if (!theirs.outcome) {
      record.server_error = theirs.outcome.error().text;
      if (!handed_on) return false;
    }
    record.source = theirs.outcome ? answer_source::server : answer_source::server_cut_off;
    record.prompt_tokens = theirs.prompt_tokens;
    record.tokens = theirs.completion_tokens;
    out.text = std::move(theirs.text);
    return true;
  }

  device_engine<Config> device_;
  Router router_;
  Remote server_;
  hybrid_options options_;
};

}  // namespace crayon::engine
