// SPDX-License-Identifier: MIT
// Two servers for one question: the second is asked when the first is slow, or fails at once.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <crayon/concepts.hpp>
#include <crayon/serve/transport.hpp>

namespace crayon::serve {

struct hedge_options {
  std::chrono::milliseconds after{1'000};      ///< without a first piece: the second is asked too
  std::chrono::milliseconds deadline{30'000};  ///< of calls that name none
};

namespace detail {

/// What the two calls and the caller tell each other.
struct hedge_race {
  struct lane {
    std::atomic<bool> cancelled{false};
    std::thread thread = {};
    remote_answer answer = {};
    std::exception_ptr thrown = {};
    bool started = false, finished = false;

    [[nodiscard]] bool failed() const noexcept { return finished && (thrown || !answer.outcome); }
  };
  static constexpr std::size_t nobody = 2;

  std::mutex mutex;
  std::condition_variable changed;
  std::array<lane, 2> lanes;
  std::size_t winner = nobody;
  std::string pieces;  // of the winner, not handed on yet
  bool cut = false;    // the winner was cancelled between two pieces

  hedge_race() = default;
  hedge_race(const hedge_race&) = delete;
  hedge_race& operator=(const hedge_race&) = delete;
  ~hedge_race() { end(); }

  /// Cancels what still runs and waits for it.
  void end() {
    for (auto& l : lanes) l.cancelled = true;
    for (auto& l : lanes) {
      if (l.thread.joinable()) l.thread.join();
    }
  }

  /// On a lane's thread; false: the lane has lost.
  bool take(std::size_t own, std::string_view piece) {
    const std::lock_guard lock(mutex);
    if (winner == nobody) {
      winner = own;
      lanes[1 - own].cancelled = true;
    }
    if (winner != own) return false;
    if (lanes[own].cancelled.load()) {
      cut = true;
      return false;
    }
    pieces += piece;
    changed.notify_one();
    return true;
  }

  void finish(std::size_t own, remote_answer answer, std::exception_ptr thrown) {
    const std::lock_guard lock(mutex);
    auto& l = lanes[own];
    l.answer = std::move(answer);
    l.thrown = std::move(thrown);
    l.finished = true;
    if (winner == nobody && !l.failed()) {  // a whole answer, of no pieces
      winner = own;
      lanes[1 - own].cancelled = true;
    }
    changed.notify_one();
  }

  /// Asks one server on a thread of its own. Under the lock.
  template <class Remote>
  void start(std::size_t own, Remote& server, std::string_view prompt, generation_options options) {
    lanes[own].started = true;
    options.cancelled = &lanes[own].cancelled;
    const auto run = [this, own, &server, prompt, options = std::move(options)] {
      try {
        const auto pass = [this, own](std::string_view piece) { return take(own, piece); };
        finish(own, server.complete(prompt, options, pass), nullptr);
      } catch (...) {
        finish(own, {}, std::current_exception());
      }
    };
    try {
      lanes[own].thread = std::thread(run);
    } catch (const std::system_error& no_thread) {
      lanes[own].answer.outcome = error{errc::io_failed, no_thread.what()};
      lanes[own].finished = true;
    }
  }
};

}  // namespace detail

/// One remote of two. The first piece decides whose answer it is, and cancels the other call; from
/// then on that answer is as good or bad as it comes, never continued by the other server. Each
/// call runs on a thread of its own and has its own URL, key, retries and circuit; `on_piece` runs
/// on the caller's thread. The attempts and bytes of both are in the answer's record. The loser has
/// seen the prompt too: both are servers that a prompt may go to.
template <remote First, remote Second>
class hedged {
 public:
  hedged(First first, Second second, hedge_options options = {})
      : first_(std::move(first)), second_(std::move(second)), options_(options) {}

  [[nodiscard]] remote_answer complete(std::string_view prompt, const generation_options& options,
                                       piece_sink on_piece) {
    using std::chrono::milliseconds;
    const auto begun = clock::now();
    const auto deadline =
        begun + (options.deadline_ms == 0 ? options_.deadline : milliseconds(options.deadline_ms));
    const auto hedge_at = begun + options_.after;
    detail::hedge_race race;
    auto& [first, second] = race.lanes;
    const auto start = [&](std::size_t own) {
      generation_options asked = options;
      const auto left = std::chrono::duration_cast<milliseconds>(deadline - clock::now()).count();
      asked.deadline_ms = left < 1 ? 1 : static_cast<std::uint32_t>(left);
      if (own == 0) {
        race.start(0, first_, prompt, std::move(asked));
      } else {
        race.start(1, second_, prompt, std::move(asked));
      }
    };

    std::string text;  // that the caller has seen
    bool stopped = false;
    {
      std::unique_lock lock(race.mutex);
      start(0);
      while (!stopped) {
        if (options.cancelled != nullptr && options.cancelled->load()) {
          for (auto& l : race.lanes) l.cancelled = true;
        } else if (!race.pieces.empty()) {
          const std::string piece = std::exchange(race.pieces, {});
          lock.unlock();
          text += piece;
          stopped = !on_piece(piece);
          lock.lock();
          continue;
        } else if (race.winner == race.nobody && !second.started &&
                   (first.finished || clock::now() >= hedge_at)) {
          start(1);
          continue;
        }
        if (race.winner != race.nobody ? race.lanes[race.winner].finished
                                       : first.finished && (second.finished || !second.started)) {
          break;
        }
        auto until = race.winner == race.nobody && !second.started ? hedge_at : deadline;
        if (options.cancelled != nullptr) until = std::min(until, clock::now() + milliseconds(10));
        race.changed.wait_until(lock, std::max(until, clock::now() + milliseconds(1)));
      }
    }
    race.end();

    remote_answer whole = sum_up(race);
    if (stopped) {
      whole.outcome = {};
    } else if (race.cut) {
      whole.outcome = error{errc::cancelled, whole.endpoint + ": cancelled by the caller"};
    }
    if (race.winner != race.nobody) whole.text = std::move(text);
    whole.deadline_left_ms =
        std::chrono::duration<double, std::milli>(deadline - clock::now()).count();
    return whole;
  }

 private:
  [[nodiscard]] static remote_answer sum_up(detail::hedge_race& race) {
    auto& [first, second] = race.lanes;
    const auto attempts = first.answer.attempts + second.answer.attempts;
    const auto bytes = first.answer.bytes_sent + second.answer.bytes_sent;
    const std::size_t shown = race.winner == race.nobody ? 0 : race.winner;
    auto& lane = race.lanes[shown];
    if (lane.thrown) std::rethrow_exception(lane.thrown);
    remote_answer whole = std::move(lane.answer);
    if (race.winner == race.nobody && second.started) {
      if (second.thrown) std::rethrow_exception(second.thrown);
      whole.outcome = error{whole.outcome.error().code, whole.outcome.error().text + "; and " +
                                                            second.answer.outcome.error().text};
    }
    whole.attempts = attempts;
    whole.bytes_sent = bytes;
    return whole;
  }

  First first_;
  Second second_;
  hedge_options options_;
};

}  // namespace crayon::serve
