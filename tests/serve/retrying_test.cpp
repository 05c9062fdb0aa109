// SPDX-License-Identifier: MIT
#include <crayon/serve/retrying.hpp>

#include <chrono>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "virtual_network.hpp"

namespace {

namespace retry_case {

using namespace std::chrono_literals;
using namespace crayon;
using serve::retry_options;
using test::virtual_exchange;
using test::virtual_ms;
using test::virtual_world;
using policy = serve::retrying<test::virtual_transport, test::virtual_time>;
static_assert(serve::transport<policy>);

virtual_exchange status(int code, const std::string& body = "page",
                        const std::string& retry_after = "", const std::string& date = "") {
  virtual_exchange one;
  one.head = {code, "text/plain", retry_after, date};
  if (!body.empty()) one.parts = {{1ms, body}};
  return one;
}

virtual_exchange refused(errc code = errc::network_failed) {
  virtual_exchange one;
  one.refused = true;
  one.code = code;
  return one;
}

struct outcome {
  result<serve::http_response> response;
  std::string body;
  serve::traffic counted;
  std::vector<virtual_ms> waits;
  virtual_ms took{};
};

/// Exchange k of the list for attempt k.
outcome run(std::vector<virtual_exchange> list, retry_options options = {},
            virtual_ms deadline = 10s, virtual_ms cancel_after = 0ms) {
  options.seed = 7;
  virtual_world world;
  std::size_t next = 0;
  policy with(test::virtual_transport(world,
                                      [&](const auto&) {
                                        REQUIRE(next < list.size());
                                        return list[next++];
                                      }),
              options, test::virtual_time{&world});
  outcome out{error{}, {}, {}, {}, {}};
  serve::http_request request;
  request.url = "http://x/v1";
  request.body = "0123456789";
  request.counted = &out.counted;
  const auto start = world.now;
  request.deadline = start + deadline;
  if (cancel_after > 0ms) {
    world.cancel_at = start + cancel_after;
    request.cancelled = &world.cancelled;
  }
  out.response = with.post(request, [&](const serve::response_head&, std::string_view bytes) {
    out.body += bytes;
    return true;
  });
  out.waits = world.waits;
  out.took = std::chrono::ceil<virtual_ms>(world.now - start);
  return out;
}

}  // namespace retry_case

}  // namespace

TEST_CASE("what is asked again, and what is not", "[serve]") {
  using namespace retry_case;
  for (const int code : {408, 429, 500, 502, 503, 504}) {
    CAPTURE(code);
    const auto out = run({status(code), status(code), status(200, "fine")});
    REQUIRE(out.response);
    CHECK(out.body == "fine");  // and nothing of the pages before
    CHECK(out.counted.attempts == 3);
    CHECK(out.counted.bytes_sent == 30);
    CHECK(out.waits.size() == 2);
  }
  for (const int code : {200, 204, 301, 307, 400, 401, 403, 404, 413, 422, 501, 505}) {
    CAPTURE(code);
    const auto out = run({status(code)});
    REQUIRE(out.response);
    CHECK(out.response->head.status == code);
    CHECK(out.body == "page");
    CHECK(out.counted.attempts == 1);
  }
  for (const auto code : {errc::network_failed, errc::timed_out}) {
    const auto out = run({refused(code), status(200, "fine")});
    REQUIRE(out.response);
    CHECK(out.body == "fine");
    CHECK(out.counted.attempts == 2);
  }
  for (const auto code : {errc::untrusted, errc::unavailable, errc::bad_value, errc::cancelled}) {
    const auto out = run({refused(code)});
    REQUIRE_FALSE(out.response);
    CHECK(out.response.error().code == code);
    CHECK(out.counted.attempts == 1);
  }
}

TEST_CASE("when the last attempt fails, its response is what the caller gets", "[serve]") {
  using namespace retry_case;
  const auto page = run({status(500, "one"), refused(), status(503, "three")});
  REQUIRE(page.response);
  CHECK(page.response->head.status == 503);
  CHECK(page.body == "three");
  const auto gone = run({status(500, "one"), status(500, "two"), refused()});
  REQUIRE_FALSE(gone.response);
  CHECK(gone.body.empty());
  CHECK(gone.response.error().text == "http://x/v1: refused (attempt 3)");
  CHECK(run({refused()}, {.retries = 0}).response.error().text == "http://x/v1: refused");
  // An endless error page is not read to its end.
  auto endless = status(500, "");
  for (int i = 0; i < 1000; ++i) endless.parts.push_back({1ms, std::string(1000, 'x')});
  const auto cut = run({endless}, {.retries = 0});
  CHECK(cut.body.size() == 65536);
  CHECK(cut.took < 100ms);
}

TEST_CASE("nothing is asked again once a byte has been handed on", "[serve]") {
  using namespace retry_case;
  auto cut = status(200, "half");
  cut.ends = virtual_exchange::end::cut;
  auto silent = status(200, "half");
  silent.ends = virtual_exchange::end::silence;
  for (const auto& one : {cut, silent}) {
    const auto out = run({one, status(200, "other")});
    CHECK_FALSE(out.response);
    CHECK(out.body == "half");
    CHECK(out.counted.attempts == 1);
  }
  cut.parts.clear();  // a head and no byte
  const auto again = run({cut, status(200, "other")});
  CHECK(again.response);
  CHECK(again.body == "other");
}

TEST_CASE("waits have full jitter: uniform below a bound that doubles", "[serve]") {
  using namespace retry_case;
  virtual_world world;
  policy with(test::virtual_transport(world, [](const auto&) { return refused(); }),
              {.retries = 5, .base = 100ms, .longest = 700ms, .seed = 3},
              test::virtual_time{&world});
  serve::http_request request;
  constexpr std::size_t calls = 2000;
  for (std::size_t i = 0; i < calls; ++i) {
    request.deadline = world.now + 1h;
    CHECK_FALSE(with.post(request, [](const auto&, std::string_view) { return true; }));
  }
  REQUIRE(world.waits.size() == 5 * calls);
  const double bounds[] = {100, 200, 400, 700, 700};
  for (std::size_t k = 0; k < 5; ++k) {
    double sum = 0, low = 1e9, high = 0;
    for (std::size_t i = 0; i < calls; ++i) {
      const double wait = static_cast<double>(world.waits[5 * i + k].count());
      sum += wait;
      low = std::min(low, wait);
      high = std::max(high, wait);
    }
    CAPTURE(k);
    CHECK(high <= bounds[k]);
    CHECK(high > 0.95 * bounds[k]);
    CHECK(low < 0.05 * bounds[k]);
    CHECK(sum / calls > 0.47 * bounds[k]);
    CHECK(sum / calls < 0.54 * bounds[k]);
  }
}

TEST_CASE("Retry-After is waited for if the deadline allows it", "[serve]") {
  using namespace retry_case;
  const auto seconds = run({status(429, "slow", "3"), status(200, "fine")});
  CHECK(seconds.body == "fine");
  CHECK(seconds.took >= 3s);
  CHECK(seconds.took < 3200ms);
  const auto date =
      run({status(503, "slow", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:32 GMT"),
           status(200, "fine")});
  CHECK(date.body == "fine");
  CHECK(date.took >= 5s);
  CHECK(date.took < 5200ms);
  // Else the answer is at once what it would be then.
  const auto late = run({status(429, "slow", "10")});
  REQUIRE(late.response);
  CHECK(late.response->head.status == 429);
  CHECK(late.body == "slow");
  CHECK(late.took < 10ms);
}

TEST_CASE("the deadline is one for all attempts, and a cancellation ends them", "[serve]") {
  using namespace retry_case;
  auto silent = status(200, "");
  silent.ends = virtual_exchange::end::silence;
  const auto out = run({silent, silent, silent}, {.retries = 9}, 5s);
  REQUIRE_FALSE(out.response);
  CHECK(out.response.error().code == errc::timed_out);
  CHECK(out.took == 5s);  // the limit on the first token is 15 s
  CHECK(out.counted.attempts == 1);
  const auto limited = run({silent, silent, silent, silent}, {.retries = 9}, 50s);
  CHECK(limited.took <= 50s);
  CHECK(limited.counted.attempts == 4);  // three of 15 s, and the rest

  const auto during = run({silent}, {}, 10s, 2s);
  REQUIRE_FALSE(during.response);
  CHECK(during.response.error().code == errc::cancelled);
  CHECK(during.took == 2s);
  const auto between = run({status(503, "slow", "4"), status(200, "unseen")}, {}, 10s, 2s);
  CHECK(between.took == 2s);
  CHECK(between.counted.attempts == 1);
  CHECK(between.response.error().code == errc::cancelled);
  CHECK(between.body.find("unseen") == std::string::npos);
}
