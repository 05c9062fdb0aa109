// SPDX-License-Identifier: MIT
#include <crayon/serve/router_file.hpp>
#include <crayon/serve/router_members.hpp>

#include <dirent.h>
#include <unistd.h>

#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../catch.hpp"

namespace {

using namespace crayon::serve;
using crayon::errc;
using crayon::router::binding;
using crayon::router::bounded_risk;
using crayon::router::promise_kind;
using crayon::router::risk_share;
using crayon::router::rules;
using crayon::router::seen_at;
using crayon::router::signal_kind;

struct scratch {
  std::string path = "crayon_router_test_" + std::to_string(::getpid()) + ".json";
  ~scratch() { std::remove(path.c_str()); }
};

const binding bound_router{"00ff", "F32", "any", "concat of 0123", "none", "large", "0abc"};

router_file promised_router() {
  router_file file;
  file.policy.promised = bounded_risk{
      {-1.0F / 3, {promise_kind::with_confidence, risk_share::of_kept, 0.1, 0.05, 500}, 0.07, 0.25},
      signal_kind::margin,
      seen_at::after_answer};
  file.bound_to = bound_router;
  return file;
}

/// A file that would do, with one part of its text replaced.
std::string router_text(const std::string& part, const std::string& by) {
  std::string text =
      R"({"format":"crayon-router-3","policy":"any_of","thresholds":[],"promise":)"
      R"({"kind":"mean","share":"of_all","alpha":0.1,"queries":99,"observed":0.05,"call_rate":0.5,)"
      R"("signal":"margin","seen":"after_answer","threshold":0.4},"bound_to":{"model":"m",)"
      R"("quantisation":"F32","adapter":"a","blend":"b","template":"t","server":"s","domains":"d"}})";
  const std::size_t at = text.find(part);
  REQUIRE(at != std::string::npos);
  return text.replace(at, part.size(), by);
}

/// The same in format 2, which knew no domains.
std::string router_text_before(const std::string& part, const std::string& by) {
  std::string text = router_text(part, by);
  for (const auto& [now, before] : {std::pair<std::string, std::string>{"router-3", "router-2"},
                                    {R"(,"domains":"d")", ""}}) {
    const std::size_t at = text.find(now);
    if (at != std::string::npos) text.replace(at, now.size(), before);
  }
  return text;
}

}  // namespace

TEST_CASE("a router comes back as it was written", "[serve]") {
  const scratch file;
  router_file written;
  written.policy.combine = rules::combination::all_of;
  written.policy.thresholds = {{signal_kind::margin, 0.1F},
                               {signal_kind::scope_distance, 1.0F / 3},
                               {signal_kind::mean_log_prob, -2.5F}};
  written.bound_to = bound_router;
  REQUIRE(write_router(file.path, written));
  const auto read = read_router(file.path);
  REQUIRE(read);
  CHECK(read->policy.combine == written.policy.combine);
  REQUIRE(read->policy.thresholds.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(read->policy.thresholds[i].on == written.policy.thresholds[i].on);
    CHECK(read->policy.thresholds[i].threshold == written.policy.thresholds[i].threshold);
  }
  CHECK(read->bound_to == written.bound_to);
  CHECK_FALSE(read->policy.promised);
}

TEST_CASE("a promise comes back as it was written, and replaces the file as a whole", "[serve]") {
  const scratch file;
  REQUIRE(crayon::io::write_text(file.path, "older"));
  auto written = promised_router();
  for (const float risk : {-1.0F / 3, crayon::router::calibrated_threshold::keeps_none}) {
    written.policy.promised->at.risk = risk;
    REQUIRE(write_router(file.path, written));
    const auto read = read_router(file.path);
    REQUIRE(read);
    REQUIRE(read->policy.promised);
    const auto& was = *written.policy.promised;
    const auto& is = *read->policy.promised;
    CHECK(is.at.risk == was.at.risk);
    CHECK(is.at.made == was.at.made);
    CHECK(is.at.observed == was.at.observed);
    CHECK(is.at.call_rate == was.at.call_rate);
    CHECK(is.on == was.on);
    CHECK(is.when == was.when);
  }
  // Nothing is left of the temporary name.
  DIR* folder = ::opendir(".");
  REQUIRE(folder != nullptr);
  std::size_t count = 0;
  while (const dirent* entry = ::readdir(folder)) {
    count += std::string(entry->d_name).find(file.path) == 0;
  }
  ::closedir(folder);
  CHECK(count == 1);
}

TEST_CASE("a line, its promise and a budget come back as they were written", "[serve]") {
  const scratch file;
  router_file written;
  written.bound_to = bound_router;
  const crayon::router::linear line{
      {signal_kind::margin, signal_kind::domain_mismatch}, {-1.0 / 3, 2e-7}, 1.0 / 7, 0.1F};
  written.policy.line = line;
  written.policy.budget = std::make_shared<crayon::router::call_budget>(1.0 / 3, 7);
  REQUIRE(write_router(file.path, written));
  auto read = read_router(file.path);
  REQUIRE(read);
  REQUIRE(read->policy.line);
  const auto same = [](const crayon::router::linear& a, const crayon::router::linear& b) {
    return a.on == b.on && a.weight == b.weight && a.bias == b.bias;
  };
  CHECK(same(*read->policy.line, line));
  CHECK(read->policy.line->threshold == line.threshold);
  REQUIRE(read->policy.budget);
  CHECK(read->policy.budget->share() == 1.0 / 3);
  CHECK(read->policy.budget->burst() == 7);
  CHECK(read->bound_to == bound_router);
  CHECK(read->policy.looks_at(signal_kind::domain_mismatch));
  CHECK_FALSE(read->policy.looks_at(signal_kind::entropy));

  written.policy.line.reset();
  written.policy.budget.reset();
  for (const float risk : {0.1F, crayon::router::calibrated_threshold::keeps_none}) {
    written.policy.promised_line = crayon::router::bounded_line{
        {risk, {promise_kind::mean, risk_share::of_all, 0.1, 0, 500}, 0.07, 0.25},
        line,
        seen_at::after_prefill};
    REQUIRE(write_router(file.path, written));
    read = read_router(file.path);
    REQUIRE(read);
    CHECK_FALSE(read->policy.promised);
    CHECK_FALSE(read->policy.line);
    REQUIRE(read->policy.promised_line);
    CHECK(same(read->policy.promised_line->line, line));
    CHECK(read->policy.promised_line->at.risk == risk);
    CHECK(read->policy.promised_line->at.made == written.policy.promised_line->at.made);
    CHECK(read->policy.promised_line->when == seen_at::after_prefill);
    CHECK(read->policy.looks_at(signal_kind::margin));
  }
}

TEST_CASE("files that are no routers are refused by name", "[serve]") {
  const scratch file;
  const std::vector<std::pair<std::string, std::string>> table{
      {"", "malformed JSON"},
      {"[]", "not a JSON object"},
      {R"({"format":"crayon-router-1"})", "\"crayon-router-1\", expected \"crayon-router-3\""},
      {router_text("any_of", "some_of"), "\"some_of\""},
      {router_text(R"("thresholds":[],)", ""), "thresholds is not a list"},
      {router_text("[]", "[3]"), "is 3"},
      {router_text("[]", R"([{"signal":"mood"}])"), "unknown signal \"mood\""},
      {router_text("[]", R"([{"signal":"margin"}])"), "margin.threshold is null"},
      {router_text("[]", R"([{"signal":"margin","threshold":1e99}])"), "margin.threshold is 1e+99"},
      {router_text(R"("mean")", R"("median")"), "promise.kind is \"median\", expected \"mean\""},
      {router_text(R"("mean")", R"("with_confidence")"), "promise.delta is null"},
      {router_text("of_all", "of_kept"), "not a mean promises that"},
      {router_text(R"("alpha":0.1)", R"("alpha":1.5)"), "promise.alpha is 1.5"},
      {router_text("99", "-1"), "promise.queries is not a count"},
      {router_text("99", "8"), "promise.queries is 8, from which nothing like it can be promised"},
      {router_text("0.05", "-7"), "promise.observed is -7"},
      {router_text("0.5,", "42,"), "promise.call_rate is 42"},
      {router_text(R"("signal":"margin","seen":"after_answer")",
                   R"("signal":"perplexity","seen":"after_prefill")"),
       "promise.seen is \"after_prefill\", where perplexity is not known"},
      {router_text(R"("margin")", R"("mood")"), "promise.signal is \"mood\""},
      {router_text("after_answer", "later"), "promise.seen is \"later\""},
      {router_text(R"(,"threshold":0.4)", ""), "promise.threshold is null"},
      {router_text(R"("bound_to")", R"("made_for")"), "bound_to is missing"},
      {router_text(R"("adapter":"a",)", ""), "bound_to.adapter is missing or empty"},
      {router_text(R"("template":"t")", R"("template":"")"), "bound_to.template is missing"},
      {router_text(R"("blend":"b")", R"("blend":7)"), "bound_to.blend is missing"},
      {router_text(R"("model":"m")", R"("model":"any")"), "bound_to.model is \"any\""},
      {router_text(R"("signal":"margin")", R"("line":[])"), "promise.line.signals is missing"},
      {router_text(R"("signal":"margin")", R"("signal":"margin","line":{})"),
       "promise is on a signal and on a line: one at a time"},
      {router_text(R"("signal":"margin")", R"("line":{"signals":["mood"],"weights":[1],"bias":0})"),
       "promise.line.signals has \"mood\""},
      {router_text(R"("signal":"margin","seen":"after_answer")",
                   R"("line":{"signals":["perplexity"],"weights":[1],"bias":0},)"
                   R"("seen":"after_prefill")"),
       "where the line is not known"},
      {router_text(R"("thresholds")",
                   R"("line":{"signals":["margin"],"weights":[1,2]},"thresholds")"),
       "line.signals and weights are not two lists"},
      {router_text(R"("thresholds")", R"("line":{"signals":["margin","margin"],"weights":[1,2]},)"
                                      R"("thresholds")"),
       "line.signals has \"margin\", expected names of signals, each once"},
      {router_text(R"("thresholds")",
                   R"("line":{"signals":["margin"],"weights":["1"]},"thresholds")"),
       "line.weights has \"1\""},
      {router_text(R"("thresholds")",
                   R"("line":{"signals":["margin"],"weights":[1]},"thresholds")"),
       "line.bias is null"},
      {router_text(R"("thresholds")",
                   R"("line":{"signals":["margin"],"weights":[1],"bias":0},"thresholds")"),
       "line.threshold is null"},
      {router_text(R"("thresholds")", R"("budget":{"share":0.5,"burst":0},"thresholds")"),
       "budget: it would keep what the promise sends"},
      {router_text(R"("thresholds")", R"("budget":{"share":2,"burst":0},"thresholds")"),
       "budget.share is 2"},
      {router_text(R"("thresholds")", R"("budget":{"share":1,"burst":0.5},"thresholds")"),
       "budget.burst is not a count"},
      {router_text(R"(,"domains":"d")", ""), "bound_to.domains is missing or empty"},
      {router_text("crayon-router-3", "crayon-router-2"),
       "bound_to.domains: \"crayon-router-2\" has none"},
      {router_text_before(R"("thresholds")",
                          R"("line":{"signals":["margin"],"weights":[1],"bias":0,)"
                          R"("threshold":0.5},"thresholds")"),
       ": line: \"crayon-router-2\" has none"},
      {router_text_before(R"("thresholds")", R"("budget":{"share":1,"burst":0},"thresholds")"),
       ": budget: \"crayon-router-2\" has none"},
      {router_text_before(R"("signal":"margin")",
                          R"("line":{"signals":["margin"],"weights":[1],"bias":0})"),
       "promise.line: \"crayon-router-2\" has none"},
  };
  for (const auto& [text, part] : table) {
    REQUIRE(crayon::io::write_text(file.path, text));
    const auto read = read_router(file.path);
    CAPTURE(text);
    REQUIRE_FALSE(read);
    INFO(read.error().text);
    CHECK(read.error().code == errc::bad_format);
    CHECK(read.error().text.find(file.path + ": ") == 0);
    CHECK(read.error().text.find(part) != std::string::npos);
  }
  REQUIRE(crayon::io::write_text(file.path, router_text_before("margin", "entropy")));
  CHECK(read_router(file.path));
  CHECK(read_router(file.path)->bound_to.domains == binding::none);
  CHECK(read_router(file.path + ".none").error().code == errc::not_found);
}

TEST_CASE("what no router may be is not written", "[serve]") {
  const scratch file;
  const auto refused = [&](auto&& break_it) {
    router_file broken = promised_router();
    break_it(broken);
    const auto written = write_router(file.path, broken);
    CHECK_FALSE(read_router(file.path));  // nothing was written
    return written ? std::string() : written.error().text;
  };
  const auto holds = [](const std::string& text, const char* part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };
  holds(refused([](auto& r) {
          r.policy.promised.reset();
          r.policy.thresholds = {{signal_kind::margin, std::numeric_limits<float>::quiet_NaN()}};
        }),
        "the threshold of margin");
  holds(refused([](auto& r) {
          r.policy.thresholds = {{signal_kind::margin, 0.5F}};
        }),
        "other thresholds beside it");
  holds(refused([](auto& r) { r.policy.promised->at.made = {}; }), "its promise is none");
  holds(refused([](auto& r) {
          r.policy.line = crayon::router::linear{{signal_kind::margin}, {1}};
        }),
        "other thresholds beside it");
  holds(refused([](auto& r) {
          r.policy.promised_line = crayon::router::bounded_line{
              r.policy.promised->at, {{signal_kind::margin}, {1}}, seen_at::after_answer};
        }),
        "one at a time");
  holds(refused(
            [](auto& r) { r.policy.budget = std::make_shared<crayon::router::call_budget>(0.5); }),
        "budget");
  holds(refused([](auto& r) {
          r.policy.promised.reset();
          r.policy.line = crayon::router::linear{{signal_kind::margin},
                                                 {std::numeric_limits<double>::infinity()}};
        }),
        "its line is not of finite numbers");
  for (const auto& [field, member] : crayon::router::binding_fields) {
    const auto at = member;
    holds(refused([at](auto& r) { (r.bound_to.*at).clear(); }), std::string(field).c_str());
  }
}
