// SPDX-License-Identifier: MIT
#include <crayon/serve/hedged.hpp>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../catch.hpp"

namespace {

namespace hedge_case {

using namespace std::chrono_literals;
using namespace crayon;
using clock = std::chrono::steady_clock;

struct lane_log {
  std::atomic<int> calls{0};
  std::atomic<int> cancelled{0};
  std::atomic<std::uint32_t> deadline_ms{0};
};

/// Waits, hands on a piece, and so on; then ends as it was told. Sees its cancellation in waits.
struct scripted {
  struct part {
    std::chrono::milliseconds after;
    std::string piece;
  };
  std::string name;
  std::vector<part> parts;
  bool works = true;
  lane_log* log = nullptr;
  bool throws = false;

  remote_answer complete(std::string_view, const generation_options& options, piece_sink on_piece) {
    ++log->calls;
    log->deadline_ms = options.deadline_ms;
    const auto deadline = clock::now() + std::chrono::milliseconds(options.deadline_ms);
    remote_answer out;
    out.attempts = 1;
    out.bytes_sent = 100;
    out.endpoint = name;
    for (const auto& one : parts) {
      const auto until = clock::now() + one.after;
      while (clock::now() < until) {
        if (options.cancelled->load()) {
          ++log->cancelled;
          out.outcome = error{errc::cancelled, name + ": cancelled"};
          return out;
        }
        if (clock::now() >= deadline) {
          out.outcome = error{errc::timed_out, name + ": late"};
          return out;
        }
        std::this_thread::sleep_for(1ms);
      }
      if (one.piece.empty()) continue;
      out.text += one.piece;
      if (!on_piece(one.piece)) return out;
    }
    if (throws) throw std::runtime_error(name);
    if (!works) out.outcome = error{errc::network_failed, name + ": broken"};
    return out;
  }
};

struct seen {
  remote_answer answer;
  std::string pieces;
  std::chrono::milliseconds took{};
  int first_calls = 0, second_calls = 0, cancelled = 0;
};

seen run(scripted first, scripted second, serve::hedge_options options = {.after = 40ms},
         const generation_options& asked = {.deadline_ms = 3000}, std::size_t enough = 99) {
  lane_log logs[2];
  first.log = &logs[0];
  second.log = &logs[1];
  serve::hedged with(std::move(first), std::move(second), options);
  static_assert(remote<decltype(with)>);
  seen out;
  const auto start = clock::now();
  const auto caller = std::this_thread::get_id();
  std::size_t count = 0;
  out.answer = with.complete("p", asked, [&](std::string_view piece) {
    CHECK(std::this_thread::get_id() == caller);
    out.pieces += piece;
    return ++count < enough;
  });
  out.took = std::chrono::ceil<std::chrono::milliseconds>(clock::now() - start);
  out.first_calls = logs[0].calls;
  out.second_calls = logs[1].calls;
  out.cancelled = logs[0].cancelled + logs[1].cancelled;
  return out;
}

scripted says(std::string name, std::chrono::milliseconds after, bool works = true) {
  return {std::move(name), {{after, "a"}, {2ms, "b"}}, works};
}
scripted fails(std::string name, std::chrono::milliseconds after = 0ms) {
  return {std::move(name), {{after, ""}}, false};
}

}  // namespace hedge_case

}  // namespace

TEST_CASE("a first server that is fast is the only one asked", "[serve]") {
  using namespace hedge_case;
  const auto out = run(says("one", 0ms), says("two", 0ms), {.after = 500ms});
  REQUIRE(out.answer.outcome);
  CHECK(out.answer.text == "ab");
  CHECK(out.pieces == "ab");
  CHECK(out.answer.endpoint == "one");
  CHECK(out.answer.attempts == 1);
  CHECK(out.answer.bytes_sent == 100);
  CHECK(out.answer.deadline_left_ms > 2000);
  CHECK(out.second_calls == 0);
  CHECK(out.took < 500ms);
}

TEST_CASE("a first server that is slow is overtaken and cancelled", "[serve]") {
  using namespace hedge_case;
  const auto out = run(says("one", 2000ms), says("two", 5ms));
  REQUIRE(out.answer.outcome);
  CHECK(out.answer.text == "ab");
  CHECK(out.pieces == "ab");
  CHECK(out.answer.endpoint == "two");
  CHECK(out.answer.attempts == 2);
  CHECK(out.answer.bytes_sent == 200);
  CHECK(out.cancelled == 1);
  CHECK(out.took >= 40ms);
  CHECK(out.took < 1000ms);
  // What began late may still be first.
  const auto back = run(says("one", 90ms), says("two", 2000ms));
  CHECK(back.answer.endpoint == "one");
  CHECK(back.answer.attempts == 2);
  CHECK(back.cancelled == 1);
}

TEST_CASE("a first server that fails is followed at once", "[serve]") {
  using namespace hedge_case;
  const auto out = run(fails("one"), says("two", 0ms), {.after = 2s});
  REQUIRE(out.answer.outcome);
  CHECK(out.answer.endpoint == "two");
  CHECK(out.answer.attempts == 2);
  CHECK(out.took < 1s);
  auto thrower = fails("one");
  thrower.throws = true;
  CHECK(run(thrower, says("two", 0ms)).answer.endpoint == "two");
}

TEST_CASE("an answer that has begun is not continued by the other server", "[serve]") {
  using namespace hedge_case;
  const auto out = run(says("one", 0ms, false), says("two", 0ms), {.after = 500ms});
  REQUIRE_FALSE(out.answer.outcome);
  CHECK(out.answer.outcome.error().text == "one: broken");
  CHECK(out.answer.text == "ab");
  CHECK(out.second_calls == 0);
}

TEST_CASE("both fail, both are late, both throw", "[serve]") {
  using namespace hedge_case;
  const auto out = run(fails("one"), fails("two"));
  REQUIRE_FALSE(out.answer.outcome);
  CHECK(out.answer.outcome.error().text == "one: broken; and two: broken");
  CHECK(out.answer.attempts == 2);
  CHECK(out.pieces.empty());
  const auto late = run(says("one", 9s), says("two", 9s), {.after = 20ms}, {.deadline_ms = 120});
  REQUIRE_FALSE(late.answer.outcome);
  CHECK(late.answer.outcome.error().code == errc::timed_out);
  CHECK(late.took >= 120ms);
  CHECK(late.took < 600ms);
  auto thrower = fails("one");
  thrower.throws = true;
  CHECK_THROWS_AS(run(thrower, fails("two")), std::runtime_error);
}

TEST_CASE("an empty answer is an answer", "[serve]") {
  using namespace hedge_case;
  const auto out = run({"one", {}, true}, says("two", 0ms), {.after = 500ms});
  CHECK(out.answer.outcome);
  CHECK(out.answer.text.empty());
  CHECK(out.answer.endpoint == "one");
}

TEST_CASE("the second call has what is left of the deadline", "[serve]") {
  using namespace hedge_case;
  lane_log logs[2];
  auto first = says("one", 9s), second = says("two", 0ms);
  first.log = &logs[0];
  second.log = &logs[1];
  serve::hedged with(first, second, {.after = 50ms, .deadline = 700ms});
  REQUIRE(with.complete("p", {}, [](std::string_view) { return true; }).outcome);
  CHECK(logs[0].deadline_ms <= 700);
  CHECK(logs[1].deadline_ms <= 650);
  CHECK(logs[1].deadline_ms > 0);
}

TEST_CASE("the caller stops, cancels, throws", "[serve]") {
  using namespace hedge_case;
  scripted endless{"one", {}, true};
  for (int i = 0; i < 1000; ++i) endless.parts.push_back({2ms, "x"});
  const auto enough = run(endless, says("two", 0ms), {.after = 500ms}, {.deadline_ms = 3000}, 3);
  CHECK(enough.answer.outcome);  // that is no error
  CHECK(enough.answer.text == enough.pieces);
  CHECK(enough.pieces.size() < 500);
  CHECK(enough.took < 1s);

  for (const auto& first : {endless, says("one", 9s)}) {
    std::atomic<bool> cancelled{false};
    clock::time_point when;
    std::thread other([&] {
      std::this_thread::sleep_for(60ms);
      when = clock::now();
      cancelled = true;
    });
    generation_options asked;
    asked.deadline_ms = 5000;
    asked.cancelled = &cancelled;
    const auto out = run(first, says("two", 9s), {.after = 20ms}, asked);
    const auto now = clock::now();
    other.join();
    REQUIRE_FALSE(out.answer.outcome);
    CHECK(out.answer.outcome.error().code == errc::cancelled);
    CHECK(now - when < 500ms);
    CHECK(out.answer.text == out.pieces);
  }

  lane_log log;
  endless.log = &log;
  auto second = says("two", 0ms);
  second.log = &log;
  serve::hedged with(endless, second);
  CHECK_THROWS_AS(with.complete("p", {}, [](std::string_view) -> bool { throw 7; }), int);
}

TEST_CASE("hedged calls with random faults: one source, nothing lost, nobody hangs", "[serve]") {
  using namespace hedge_case;
  std::uint64_t state = 11;
  const auto random = [&](std::uint64_t below) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (state >> 33) % below;
  };
  for (int schedule = 0; schedule < 300; ++schedule) {
    const auto make = [&](const char* name, const char* letter) {
      scripted one{name, {}, random(3) != 0};
      for (std::uint64_t i = random(4); i > 0; --i) {
        one.parts.push_back({std::chrono::milliseconds(random(4)), random(4) == 0 ? "" : letter});
      }
      if (random(8) == 0) one.parts.push_back({10s, ""});
      return one;
    };
    const auto first = make("one", "A"), second = make("two", "B");
    const auto out =
        run(first, second, {.after = std::chrono::milliseconds(random(6))}, {.deadline_ms = 60});
    CAPTURE(schedule, first.works, second.works, out.pieces, out.answer.endpoint);
    CHECK(out.took < 60ms + 200ms);
    CHECK(out.answer.text == out.pieces);
    CHECK((out.pieces.find('A') == std::string::npos || out.pieces.find('B') == std::string::npos));
    const auto& source = out.answer.endpoint == "one" ? first : second;
    if (!out.pieces.empty()) CHECK((out.pieces[0] == 'A') == (out.answer.endpoint == "one"));
    std::string whole;
    bool silent = false;
    for (const auto& p : source.parts) {
      whole += p.piece;
      silent = silent || p.after > 1s;
    }
    CHECK(whole.starts_with(out.pieces));
    if (out.answer.outcome) {
      CHECK(source.works);
      CHECK(out.pieces == whole);
    } else {
      CHECK((!source.works || silent || out.answer.outcome.error().code == errc::timed_out));
    }
    const bool both_silent = first.parts.empty() && second.parts.empty();
    if (both_silent && (first.works || second.works)) CHECK(out.answer.outcome);
  }
}
