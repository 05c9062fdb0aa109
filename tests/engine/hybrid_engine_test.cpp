// SPDX-License-Identifier: MIT
#include <crayon/engine/hybrid_engine.hpp>

#include <atomic>
#include <chrono>
#include <cmath>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <crayon/router/always.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

namespace {

using namespace crayon;
using engine::answer_source;
using engine::hybrid_engine;
using engine::private_prompt;
using engine::route_reason;
using test::tiny_config;

/// What a server did, and what it was asked.
struct server_log {
  int calls = 0;
  std::string prompt;
  generation_options options;
};

/// Hands on its pieces and then ends as it was told.
struct scripted_remote {
  std::vector<std::string> pieces;
  result<void> outcome;
  server_log* log;

  remote_answer complete(std::string_view prompt, const generation_options& options,
                         piece_sink on_piece) {
    ++log->calls;
    log->prompt = prompt;
    log->options = options;
    remote_answer out;
    out.outcome = outcome;
    out.attempts = 1;
    out.bytes_sent = 123;
    out.endpoint = "http://server";
    for (const auto& piece : pieces) {
      out.text += piece;
      ++out.completion_tokens;
      if (!on_piece(piece)) break;
    }
    return out;
  }
};
static_assert(remote<scripted_remote>);

/// Says "server" at one of the two points.
struct at_point {
  bool before = false, after = false;
  [[nodiscard]] route decide(const signals& seen) const {
    return (seen.tokens == 0 ? before : after) ? route::server : route::device;
  }
};

engine::device_engine<tiny_config> tiny_device() {
  return *engine::device_engine<tiny_config>::make(test::tiny_weights(1, 48), {});
}

const generation_options short_answer{.max_tokens = 8};
const error broken{errc::network_failed, "http://server: cut"};

struct seen {
  result<engine::hybrid_answer> answer;
  std::string pieces;
};

template <class Prompt, class Hybrid>
seen ask(Hybrid& hybrid, const Prompt& prompt) {
  std::string pieces;
  auto answer = hybrid.answer(prompt, short_answer, [&](std::string_view piece) {
    pieces += piece;
    return true;
  });
  return {std::move(answer), std::move(pieces)};
}

}  // namespace

TEST_CASE("who answers, and what the record says", "[engine]") {
  const std::string own = tiny_device().answer("2+2=", short_answer)->text;
  REQUIRE_FALSE(own.empty());
  struct row {
    std::string name;
    at_point router;
    std::vector<std::string> pieces;
    bool server_works;
    // With a sink; without one a failure always falls back to the device.
    std::string text;
    answer_source source;
    route_reason reason;
    int calls;
  };
  const std::vector<row> table{
      {"kept", {}, {"4"}, true, own, answer_source::device, route_reason::confident, 0},
      {"sent before",
       {true, false},
       {"fo", "ur"},
       true,
       "four",
       answer_source::server,
       route_reason::before_answer,
       1},
      {"sent after",
       {false, true},
       {"fo", "ur"},
       true,
       "four",
       answer_source::server,
       route_reason::after_answer,
       1},
      {"sent before, refused",
       {true, false},
       {},
       false,
       own,
       answer_source::device_after_failure,
       route_reason::before_answer,
       1},
      {"sent after, refused",
       {false, true},
       {},
       false,
       own,
       answer_source::device_after_failure,
       route_reason::after_answer,
       1},
      {"sent before, cut off",
       {true, false},
       {"fo"},
       false,
       "fo",
       answer_source::server_cut_off,
       route_reason::before_answer,
       1},
      {"sent after, cut off",
       {false, true},
       {"fo"},
       false,
       "fo",
       answer_source::server_cut_off,
       route_reason::after_answer,
       1},
  };
  for (const auto& r : table) {
    DYNAMIC_SECTION(r.name) {
      server_log log;
      const result<void> outcome = r.server_works ? result<void>() : result<void>(broken);
      hybrid_engine hybrid(tiny_device(), r.router, scripted_remote{r.pieces, outcome, &log});
      const seen all = ask(hybrid, std::string_view("2+2="));
      REQUIRE(all.answer);
      const auto& record = all.answer->record;
      CHECK(all.answer->text == r.text);
      CHECK(all.pieces == r.text);  // the caller has seen the answer, once and nothing else
      CHECK(record.source == r.source);
      CHECK(record.reason == r.reason);
      CHECK(log.calls == r.calls);
      CHECK(record.attempts == static_cast<std::size_t>(r.calls));
      CHECK(record.bytes_sent == (r.calls == 0 ? 0 : 123));
      CHECK(record.server == (r.calls == 0 ? "" : "http://server"));
      CHECK(record.deadline_left_ms != record.deadline_left_ms);  // NaN: there was none
      CHECK(record.server_error == (r.server_works ? "" : broken.text));
      const bool late = r.reason == route_reason::after_answer;
      const bool theirs =
          r.source == answer_source::server || r.source == answer_source::server_cut_off;
      CHECK((record.wasted_tokens > 0) == (late && theirs));
      CHECK((record.seen.tokens > 0) == (r.reason != route_reason::before_answer || !theirs));
      CHECK(record.tokens > 0);
      CHECK(record.milliseconds >= record.server_ms);
      if (r.calls > 0) CHECK(log.prompt == "2+2=");

      const auto quiet = hybrid.answer("2+2=", short_answer);
      REQUIRE(quiet);
      CHECK(quiet->text == (r.server_works ? r.text : own));
      CHECK(quiet->record.source == (r.source == answer_source::server_cut_off
                                         ? answer_source::device_after_failure
                                         : r.source));
    }
  }
}

TEST_CASE("a device's answer that is streamed is not asked about again", "[engine]") {
  server_log log;
  hybrid_engine hybrid(tiny_device(), at_point{false, true}, scripted_remote{{"x"}, {}, &log},
                       {.stream_device = true});
  int pieces = 0;
  const auto answer = hybrid.answer("2+2=", short_answer, [&](std::string_view) {
    ++pieces;
    return true;
  });
  REQUIRE(answer);
  CHECK(answer->record.source == answer_source::device);
  CHECK(pieces > 1);
  CHECK(log.calls == 0);
}

TEST_CASE("a prompt that the device cannot take goes to the server", "[engine]") {
  const std::string prompt(60, 'x');
  server_log log;
  hybrid_engine works(tiny_device(), router::always_device{}, scripted_remote{{"yes"}, {}, &log});
  const auto answer = works.answer(prompt);
  REQUIRE(answer);
  CHECK(answer->text == "yes");
  CHECK(answer->record.reason == route_reason::device_refused);

  hybrid_engine fails(tiny_device(), router::always_device{}, scripted_remote{{}, broken, &log});
  const auto neither = fails.answer(prompt);
  REQUIRE_FALSE(neither);
  CHECK(neither.error().text.find("context") != std::string::npos);
  CHECK(neither.error().text.find(broken.text) != std::string::npos);
}

TEST_CASE("the server gets the smaller of the two deadlines", "[engine]") {
  server_log log;
  hybrid_engine hybrid(tiny_device(), router::always_server{}, scripted_remote{{"x"}, {}, &log},
                       {.server_deadline_ms = 700});
  REQUIRE(hybrid.answer("a"));
  CHECK(log.options.deadline_ms == 700);
  REQUIRE(hybrid.answer("a", {.max_tokens = 3, .deadline_ms = 300}));
  CHECK(log.options.deadline_ms <= 300);
  CHECK(log.options.deadline_ms > 0);
  CHECK(log.options.max_tokens == 3);

  // The device's time counts: what is left of the deadline may be nothing.
  struct slow {
    [[nodiscard]] route decide(const signals& seen) const {
      if (seen.tokens > 0) std::this_thread::sleep_for(std::chrono::milliseconds(40));
      return seen.tokens > 0 ? route::server : route::device;
    }
  };
  log = {};
  hybrid_engine late(tiny_device(), slow{}, scripted_remote{{"x"}, {}, &log});
  const auto answer = late.answer("a", {.max_tokens = 3, .deadline_ms = 40});
  REQUIRE(answer);
  CHECK(answer->record.source == answer_source::device_after_failure);
  CHECK(answer->record.server_error.find("40 ms") != std::string::npos);
  CHECK(answer->record.deadline_left_ms < 0);
  CHECK(answer->record.attempts == 0);
  CHECK(log.calls == 0);
  CHECK(hybrid.answer("a", {.max_tokens = 3, .deadline_ms = 9000})->record.deadline_left_ms > 1000);
}

TEST_CASE("the device's answer after a failure has what is left of the deadline", "[engine]") {
  // Takes all the time it may, and fails.
  struct silent_remote {
    server_log* log;
    remote_answer complete(std::string_view, const generation_options& options, piece_sink) {
      log->options = options;
      std::this_thread::sleep_for(std::chrono::milliseconds(options.deadline_ms));
      return {broken, "", 0, 0, 1};
    }
  };
  // Pieces of one byte, each of which takes a while to be taken.
  const auto ask_within = [](std::uint32_t reserve_ms, server_log& log) {
    hybrid_engine hybrid(tiny_device(), router::always_server{}, silent_remote{&log},
                         {.reserve_ms = reserve_ms});
    return *hybrid.answer("2+2=", {.max_tokens = 40, .deadline_ms = 400}, [](std::string_view) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      return true;
    });
  };
  const std::string whole = tiny_device().answer("2+2=", {.max_tokens = 40})->text;
  REQUIRE(whole.size() > 30);

  server_log all_of_it, most_of_it;
  const auto least = ask_within(0, all_of_it), some = ask_within(500, most_of_it);
  for (const auto* answer : {&least, &some}) {
    CHECK(answer->record.source == answer_source::device_after_failure);
    CHECK(answer->record.server_error == broken.text);
    CHECK(answer->record.tokens >= 1);
    CHECK(answer->text.size() < whole.size() / 2);
    CHECK(whole.starts_with(answer->text));
    CHECK(answer->record.milliseconds < 400 + 200);  // one late piece, and a busy machine
  }
  CHECK(all_of_it.options.deadline_ms > 300);
  CHECK(most_of_it.options.deadline_ms <= 300);  // a quarter is kept
  CHECK(some.record.tokens >= least.record.tokens);
  // Nothing is kept for an answer that is there already.
  server_log late;
  hybrid_engine after(tiny_device(), at_point{false, true}, silent_remote{&late});
  CHECK(after.answer("2+2=", {.max_tokens = 2, .deadline_ms = 200})->record.attempts == 1);
  CHECK(late.options.deadline_ms > 150);
}

TEST_CASE("a private prompt stays on the device, whatever the router says", "[engine]") {
  static_assert(!std::is_convertible_v<private_prompt, std::string_view>);
  static_assert(!std::is_convertible_v<private_prompt, std::string>);
  static_assert(!std::is_constructible_v<std::string, private_prompt>);
  static_assert(!std::is_invocable_v<decltype(&scripted_remote::complete), scripted_remote&,
                                     private_prompt, const generation_options&, piece_sink>);
  server_log log;
  hybrid_engine hybrid(tiny_device(), router::always_server{}, scripted_remote{{"x"}, {}, &log});
  const seen all = ask(hybrid, private_prompt("2+2="));
  REQUIRE(all.answer);
  CHECK(all.answer->record.source == answer_source::device);
  CHECK(all.answer->record.reason == route_reason::is_private);
  CHECK(all.answer->text == tiny_device().answer("2+2=", short_answer)->text);
  CHECK(all.pieces == all.answer->text);
  CHECK(all.answer->record.bytes_sent == 0);
  CHECK(all.answer->record.server.empty());
  // Not even when the device cannot answer it.
  CHECK_FALSE(hybrid.answer(private_prompt(std::string(60, 'x'))));
  CHECK(log.calls == 0);
}

TEST_CASE("the default router asks the server out of scope and when unsure", "[engine]") {
  auto device = tiny_device();
  const std::vector<engine::sample> brought{{"2+3", "five"}, {"7+1", "eight"}};
  REQUIRE(device.customize(test::tiny_pool(device.base().weights), brought));
  const auto own = device.answer("2+3", short_answer);
  REQUIRE(own);
  const auto decide = [&](float scope, float confidence) {
    server_log log;
    hybrid_engine hybrid(
        device.fork(),
        tiny_config::router{router::scope{scope},
                            router::confidence{router::signal_kind::max_probability, confidence}},
        scripted_remote{{"x"}, {}, &log});
    return hybrid.answer("2+3", short_answer)->record;
  };
  const float distance = own->seen.scope_distance, sure = own->seen.max_probability;
  CHECK(decide(distance + 0.01F, sure * 0.99F).source == answer_source::device);
  CHECK(decide(distance - 0.01F, sure * 0.99F).reason == route_reason::before_answer);
  CHECK(decide(distance + 0.01F, sure * 1.01F).source == answer_source::server);
}

TEST_CASE("a call that is cancelled while the server is asked has no answer", "[engine]") {
  std::atomic<bool> cancelled{false};
  struct leaving {
    std::atomic<bool>* flag;
    remote_answer complete(std::string_view, const generation_options& options, piece_sink) {
      CHECK(options.cancelled == flag);
      *flag = true;
      return {error{errc::cancelled, "http://server: cancelled"}, "", 0, 0, 1};
    }
  };
  hybrid_engine hybrid(tiny_device(), router::always_server{}, leaving{&cancelled});
  generation_options options = short_answer;
  options.cancelled = &cancelled;
  const auto answer = hybrid.answer("2+2=", options);
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == errc::cancelled);
  // And the device stops after the token it was at.
  const auto own = tiny_device().answer("2+2=", options);
  REQUIRE(own);
  CHECK(own->tokens == 1);
  CHECK(own->finished == engine::finish_reason::cancelled);
}

namespace {

/// Asked at every point there is; remembers when, and says "server" at one number of tokens.
struct listening {
  std::vector<signals>* heard;
  std::size_t sends_at;
  [[nodiscard]] route decide(const signals& seen) const {
    heard->push_back(seen);
    return seen.tokens == sends_at ? route::server : route::device;
  }
};

struct first_and_every_3 : router::decision_points {
  static constexpr bool after_prefill = false, first_token = true, after_answer = false;
  static constexpr std::size_t every = 3;
};
struct points_config : tiny_config {
  using decide_at = first_and_every_3;
};
struct once_config : tiny_config {
  using decide_at = crayon::router::once;
};

constexpr std::size_t never = 1000;

}  // namespace

TEST_CASE("the router is asked at the decision points of the configuration", "[engine]") {
  const auto asked_at = [](auto config, std::size_t sends_at, auto check) {
    using config_type = decltype(config);
    std::vector<signals> heard;
    server_log log;
    hybrid_engine<config_type, scripted_remote, listening> hybrid(
        *engine::device_engine<config_type>::make(test::tiny_weights(1, 48), {}),
        listening{&heard, sends_at}, scripted_remote{{"four"}, {}, &log});
    const auto answer = hybrid.answer("2+2=", short_answer);
    REQUIRE(answer);
    std::vector<std::size_t> tokens;
    for (std::size_t i = 0; i < heard.size(); ++i) {
      CHECK(heard[i].asked == i);
      CHECK((heard[i].tokens == 0) == std::isnan(heard[i].mean_log_prob));
      tokens.push_back(heard[i].tokens);
    }
    check(answer->record, tokens, answer->text);
  };
  using places = std::vector<std::size_t>;
  const auto own = tiny_device().answer("2+2=", short_answer);
  REQUIRE(own->tokens == 8);
  asked_at(tiny_config{}, never, [](const auto& record, const places& at, const auto&) {
    CHECK(at == places{0, 8});
    CHECK(record.reason == route_reason::confident);
    CHECK(record.wasted_ms == 0);
  });
  asked_at(once_config{}, never,
           [](const auto&, const places& at, const auto&) { CHECK(at == places{0}); });
  asked_at(once_config{}, 0, [](const auto& record, const places&, const auto& text) {
    CHECK(record.reason == route_reason::before_answer);
    CHECK(record.wasted_tokens == 0);
    CHECK(record.wasted_ms > 0);  // the prompt was read
    CHECK(text == "four");
  });
  asked_at(points_config{}, never, [&](const auto& record, const places& at, const auto& text) {
    CHECK(at == places{1, 3, 6});
    CHECK(record.tokens == 8);
    CHECK(text == own->text);
  });
  asked_at(points_config{}, 1, [](const auto& record, const places& at, const auto& text) {
    CHECK(at == places{1});
    CHECK(record.reason == route_reason::at_first_token);
    CHECK(record.wasted_tokens == 1);
    CHECK(text == "four");
  });
  asked_at(points_config{}, 6, [](const auto& record, const places& at, const auto&) {
    CHECK(at == places{1, 3, 6});
    CHECK(record.reason == route_reason::during_answer);
    CHECK(record.source == answer_source::server);
    CHECK(record.seen.tokens == 6);
    CHECK(record.wasted_tokens == 6);
    CHECK(record.wasted_ms > 0);
    CHECK(record.wasted_ms <= record.milliseconds);
  });
}

TEST_CASE("an answer broken off for a server that fails is given after all", "[engine]") {
  const std::string own = tiny_device().answer("2+2=", short_answer)->text;
  std::vector<signals> heard;
  server_log log;
  hybrid_engine<points_config, scripted_remote, listening> hybrid(
      *engine::device_engine<points_config>::make(test::tiny_weights(1, 48), {}),
      listening{&heard, 3}, scripted_remote{{}, broken, &log});
  const seen all = ask(hybrid, std::string_view("2+2="));
  REQUIRE(all.answer);
  CHECK(all.answer->text == own);
  CHECK(all.pieces == own);
  CHECK(log.calls == 1);
  CHECK(heard.size() == 2);  // and not asked again on the way
  const auto& record = all.answer->record;
  CHECK(record.source == answer_source::device_after_failure);
  CHECK(record.reason == route_reason::during_answer);
  CHECK(record.tokens == 8);
  CHECK(record.wasted_tokens == 3);
  // The server left time for it.
  generation_options options = short_answer;
  options.deadline_ms = 400;
  REQUIRE(hybrid.answer("2+2=", options));
  CHECK(log.options.deadline_ms <= 300);
}

TEST_CASE("while pieces are handed on the router is asked before the first only", "[engine]") {
  std::vector<signals> heard;
  server_log log;
  const auto run = [&](std::size_t sends_at) {
    heard.clear();
    hybrid_engine<points_config, scripted_remote, listening> hybrid(
        *engine::device_engine<points_config>::make(test::tiny_weights(1, 48), {}),
        listening{&heard, sends_at}, scripted_remote{{"four"}, {}, &log}, {.stream_device = true});
    return ask(hybrid, std::string_view("2+2="));
  };
  CHECK(run(3).answer->record.source == answer_source::device);
  CHECK(heard.size() == 1);
  const seen sent = run(1);
  CHECK(sent.answer->record.reason == route_reason::at_first_token);
  CHECK(sent.pieces == "four");
}
