// SPDX-License-Identifier: MIT
// A device that asks a server for what it should not answer itself.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <crayon/concepts.hpp>
#include <crayon/engine/answer_record.hpp>
#include <crayon/engine/device_engine.hpp>
#include <crayon/engine/private_prompt.hpp>

namespace crayon::engine {

struct hybrid_options {
  std::uint32_t server_deadline_ms = 10'000;  ///< how long the server may take, failures included
  /// Of a call's deadline, at most a quarter of what is left: kept for the device's answer in case
  /// the server fails, unless that answer is there already.
  std::uint32_t reserve_ms = 500;
  /// Hand the device's pieces on while they are generated, and do not ask the router any more once
  /// there was one: what a caller has seen cannot be taken back. False: the device's answer is
  /// handed on at once, when the router has seen all of it.
  bool stream_device = false;
};

/// The device prefills the prompt and answers, unless the router, asked at the configuration's
/// decision points (`Config::decide_at`), sends the query to the server. When the server fails,
/// whatever the reason, the device's answer is given, begun again where it was broken off, as much
/// of it as the deadline leaves time for and at least one token, unless pieces of the server's
/// answer have been handed on already: then they are what there is, and the record says so. Without
/// a sink nothing is handed on early, and the fallback is always the device.
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
  using points = typename Config::decide_at;
  static constexpr std::size_t one = 1;

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

  /// What was decided before stands where nothing weightier is said for it now.
  static void note(answer_record& record, const router::decision& why,
                   std::optional<router::seen_at> now) {
    const bool stands = why.to == record.decided.to && !record.decided.by.empty() &&
                        (why.by.empty() || router::outweighs(record.decided, why));
    if (stands) return;
    record.decided = why;
    record.under_promise =
        why.to == route::device && why.due == now && why.made.kind != router::promise_kind::none;
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
      record.decided.to = route::server;
      if (ask_server(out, prompt, options, sink, start)) return finished();
      return error{begun.error().code,
                   begun.error().text + "; and the server failed: " + record.server_error};
    }
    std::size_t asked = 0;
    const auto sends = [&](signals seen, std::optional<router::seen_at> now) {
      seen.asked = asked++;
      record.seen = seen;
      const route said = router_.decide(seen);
      note(record, router::explain(router_, seen, said), now);
      return said == route::server;
    };
    record.seen = *begun;
    if (points::after_prefill && sends(*begun, router::seen_at::after_prefill)) {
      record.reason = route_reason::before_answer;
      record.wasted_ms = milliseconds_since(start);
      if (ask_server(out, prompt, options, sink, start)) return finished();
      record.source = answer_source::device_after_failure;
      record.wasted_ms = 0;
      take(out, *finish_device(options, sink, record.server_ms));
      return finished();
    }
    const bool stream = options_.stream_device && sink != nullptr;
    const auto keeps = [&](const signals& seen) {
      const bool first = points::first_token && seen.tokens == 1;
      const bool kth = points::every != 0 && seen.tokens % std::max(points::every, one) == 0;
      if (!(first || kth) || (stream && seen.tokens > 1)) return true;
      if (!sends(seen, std::nullopt)) return true;
      record.reason = first ? route_reason::at_first_token : route_reason::during_answer;
      return false;
    };
    device_answer own = *finish_device(options, stream ? sink : nullptr, 0, keeps);
    const bool cut = own.finished == finish_reason::handed_over;
    if (!cut) record.seen = own.seen;
    if (cut ||
        (points::after_answer && !stream && sends(own.seen, router::seen_at::after_answer))) {
      if (!cut) record.reason = route_reason::after_answer;
      const bool theirs = ask_server(out, prompt, options, sink, start);
      if (theirs || cut) {
        record.wasted_tokens = own.tokens;
        record.wasted_ms = own.milliseconds;
      }
      if (theirs) return finished();
      record.source = answer_source::device_after_failure;
      if (cut) {
        take(out, begin_again(prompt, options, sink, start));
        return finished();
      }
    }
    if (!stream && sink != nullptr && !own.text.empty()) (*sink)(own.text);
    take(out, std::move(own));
    return finished();
  }

  /// Cannot fail: it follows a `begin` that did not. The device's deadline does not count the time
  /// between the two, `waited_ms`.
  [[nodiscard]] result<device_answer> finish_device(generation_options options, piece_sink* sink,
                                                    double waited_ms = 0,
                                                    signals_sink keeps = always_go_on) {
    if (options.deadline_ms != 0) {
      const double left = static_cast<double>(options.deadline_ms) - waited_ms;
      options.deadline_ms = static_cast<std::uint32_t>(std::max(left, 1.0));
    }
    return device_.finish(options, sink != nullptr ? *sink : ignore_pieces, ignore_tokens, keeps);
  }

  /// The device's answer after all, when it was broken off: the same tokens up to that point.
  [[nodiscard]] device_answer begin_again(std::string_view prompt,
                                          const generation_options& options, piece_sink* sink,
                                          clock::time_point start) {
    const double gone_ms = milliseconds_since(start);
    [[maybe_unused]] const auto begun = device_.begin(prompt);
    CRAYON_ASSERT(begun && "it fitted the first time");
    return *finish_device(options, sink, gone_ms);
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
      const bool needed = record.reason != route_reason::after_answer &&
                          record.reason != route_reason::device_refused;
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
