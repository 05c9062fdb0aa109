// SPDX-License-Identifier: MIT
#include <crayon/engine/answer_record.hpp>

#include <string_view>
#include <utility>

#include <crayon/engine/hybrid_engine.hpp>
#include <crayon/router/always.hpp>
#include <crayon/router/rules.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

namespace {

namespace records {

using namespace crayon;
using router::bounded_risk;
using router::confidence;
using router::promise_kind;
using router::rules;
using router::seen_at;
using router::signal_kind;

struct elsewhere {
  bool works = true;

  [[nodiscard]] remote_answer complete(std::string_view, const generation_options&,
                                       piece_sink) const {
    remote_answer out;
    if (!works) out.outcome = error{errc::network_failed, "away"};
    out.text = "four";
    return out;
  }
};

template <class Router>
engine::answer_record record_of(Router policy, bool server_works = true, bool stream = false) {
  auto device = *engine::device_engine<test::tiny_config>::make(test::tiny_weights(1, 48), {});
  engine::hybrid_options how;
  how.stream_device = stream;
  engine::hybrid_engine hybrid(std::move(device), std::move(policy), elsewhere{server_works}, how);
  auto answer = hybrid.answer("2+2=", {.max_tokens = 8}, [](std::string_view) { return true; });
  REQUIRE(answer);
  return answer->record;
}

/// `keeps`: every answer, or none.
rules promised(bool keeps, seen_at when = seen_at::after_answer) {
  bounded_risk one;
  one.at.risk = keeps ? 0.0F : -1.0F;
  one.at.made = {promise_kind::mean, router::risk_share::of_all, 0.1, 0, 500};
  one.on = signal_kind::max_probability;
  one.when = when;
  return {rules::combination::any_of, {}, one};
}

struct own_policy {
  [[nodiscard]] static route decide(const signals&) { return route::server; }
};

}  // namespace records

}  // namespace

TEST_CASE("a record says which signal decided, with its score and threshold", "[engine]") {
  using namespace records;
  auto record = record_of(confidence{signal_kind::margin, 2});
  CHECK(record.decided.to == route::server);
  CHECK(record.decided.by == "margin");
  CHECK(record.decided.score == record.seen.margin);
  CHECK(record.decided.threshold == 2);
  CHECK_FALSE(record.under_promise);
  record = record_of(confidence{signal_kind::margin, -1});
  CHECK(record.decided.to == route::device);
  CHECK(record.decided.score == record.seen.margin);  // after the answer: the lowest of it
  record = record_of(router::always_device{});
  CHECK(record.decided.by == "always_device");
  CHECK(record.decided.threshold != record.decided.threshold);
  record = record_of(own_policy{});
  CHECK(record.decided.to == route::server);
  CHECK(record.decided.by.empty());
}

TEST_CASE("a record says whether an answer is under a promise", "[engine]") {
  using namespace records;
  auto record = record_of(promised(true));
  CHECK(record.decided.made.kind == promise_kind::mean);
  CHECK(record.decided.made.queries == 500);
  CHECK(record.under_promise);
  // One that was decided before the answer stays the reason after it.
  auto both = promised(true, seen_at::after_prefill);
  both.thresholds.push_back({signal_kind::margin, -1});
  record = record_of(both);
  CHECK(record.decided.by == "max_probability");
  CHECK(record.under_promise);
  both.thresholds.back().threshold = 2;
  CHECK(record_of(both).decided.by == "margin");
  CHECK_FALSE(record_of(both).under_promise);

  // The server's, the device's because the server failed, and one whose score was not seen whole.
  CHECK_FALSE(record_of(promised(false)).under_promise);
  record = record_of(promised(false), false);
  CHECK(record.source == engine::answer_source::device_after_failure);
  CHECK(record.decided.made.kind == promise_kind::mean);
  CHECK_FALSE(record.under_promise);
  record = record_of(promised(true), true, true);
  CHECK(record.decided.made.kind == promise_kind::mean);
  CHECK_FALSE(record.under_promise);
  CHECK(record_of(promised(true, seen_at::after_prefill), true, true).under_promise);
}
