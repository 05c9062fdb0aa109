// SPDX-License-Identifier: MIT
#include <crayon/serve/circuit_breaker.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <crayon/serve/retrying.hpp>

#include "../catch.hpp"
#include "virtual_network.hpp"

namespace {

namespace circuit_case {

using namespace std::chrono_literals;
using namespace crayon;
using serve::circuit;
using serve::circuit_state;
using test::virtual_exchange;
using test::virtual_transport;
using test::virtual_world;
using breaker = serve::circuit_breaker<virtual_transport, test::virtual_time>;
static_assert(serve::transport<breaker>);

/// A server whose health a test changes.
struct patient {
  virtual_world world = {};
  int status = 200;
  std::string content_type = "application/json";
  errc refusal = errc::network_failed;
  int asked = 0;
  std::shared_ptr<circuit> shared = std::make_shared<circuit>();
  breaker with{virtual_transport(world,
                                 [this](const auto&) {
                                   ++asked;
                                   virtual_exchange one;
                                   one.connects = 0ms;
                                   one.refused = status == 0;
                                   one.code = refusal;
                                   one.head.status = status;
                                   one.head.content_type = content_type;
                                   one.parts = {{0ms, "x"}};
                                   return one;
                                 }),
               shared, test::virtual_time{&world}};

  result<serve::http_response> ask() {
    serve::http_request request;
    request.url = "http://x/v1";
    request.deadline = world.now + 10s;
    return with.post(request, [](const auto&, std::string_view) { return true; });
  }
  bool sent() {
    const int before = asked;
    const auto response = ask();
    if (asked == before) {
      REQUIRE_FALSE(response);
      CHECK(response.error().code == errc::unavailable);
      CHECK(response.error().text.starts_with("http://x/v1: not asked: it failed "));
    }
    return asked > before;
  }
};

}  // namespace circuit_case

}  // namespace

TEST_CASE("a circuit opens after failures in a row and closes after one success", "[serve]") {
  using namespace circuit_case;
  patient p;
  p.status = 0;
  for (int i = 0; i < 4; ++i) CHECK(p.sent());
  p.status = 200;
  CHECK(p.sent());  // not in a row
  p.status = 503;
  for (int i = 0; i < 5; ++i) {
    CHECK(p.with.state() == circuit_state::closed);
    CHECK(p.sent());
  }
  CHECK(p.with.state() == circuit_state::open);
  CHECK_FALSE(p.sent());
  CHECK(p.ask().error().text ==
        "http://x/v1: not asked: it failed 5 times in a row, the next try is in 5000 ms; last "
        "HTTP 503");
  p.world.now += 4999ms;
  CHECK_FALSE(p.sent());
  p.world.now += 1ms;
  p.status = 200;
  CHECK(p.sent());
  CHECK(p.with.state() == circuit_state::closed);
  CHECK(p.sent());
}

TEST_CASE("each try that fails doubles the time until the next, up to a minute", "[serve]") {
  using namespace circuit_case;
  patient p;
  p.status = 0;
  for (int i = 0; i < 5; ++i) CHECK(p.sent());
  for (const auto span : {5s, 10s, 20s, 40s, 60s, 60s}) {
    CAPTURE(span.count());
    p.world.now += span - 1ms;
    CHECK_FALSE(p.sent());
    p.world.now += 1ms;
    CHECK(p.sent());
    CHECK_FALSE(p.sent());
  }
  p.world.now += 60s;
  p.status = 200;
  CHECK(p.sent());
  p.status = 0;
  for (int i = 0; i < 5; ++i) CHECK(p.sent());
  p.world.now += 5s;  // and after a success it is the first span again
  CHECK(p.sent());
}

TEST_CASE("what is no failure of the server", "[serve]") {
  using namespace circuit_case;
  patient p;
  for (const int status : {200, 307, 401, 404, 429}) {
    p.status = status;
    for (int i = 0; i < 9; ++i) CHECK(p.sent());
  }
  p.status = 0;
  p.refusal = errc::cancelled;
  for (int i = 0; i < 9; ++i) CHECK(p.sent());
  CHECK(p.with.state() == circuit_state::closed);
  // A try that is cancelled leaves it open, and the next one may try.
  p.refusal = errc::timed_out;
  for (int i = 0; i < 5; ++i) CHECK(p.sent());
  p.world.now += 5s;
  p.refusal = errc::cancelled;
  CHECK(p.sent());
  CHECK(p.with.state() == circuit_state::open);
  p.status = 200;
  CHECK(p.sent());
  CHECK(p.with.state() == circuit_state::closed);
}

TEST_CASE("a sign-in page before the server is a failure, an error as HTML is the server's",
          "[serve]") {
  using namespace circuit_case;
  patient p;
  p.content_type = "text/html; charset=utf-8";
  p.status = 404;
  for (int i = 0; i < 9; ++i) CHECK(p.sent());
  for (const int status : {200, 302, 200, 307, 200}) {
    CHECK(p.with.state() == circuit_state::closed);
    p.status = status;
    CHECK(p.sent());
  }
  CHECK_FALSE(p.sent());
  CHECK(p.ask().error().text.find("last a page of HTML") != std::string::npos);
  p.world.now += 5s;
  p.content_type = "text/event-stream";
  CHECK(p.sent());
  CHECK(p.with.state() == circuit_state::closed);
}

TEST_CASE("while one request tries, the others are not sent", "[serve]") {
  using namespace circuit_case;
  circuit one({.failures = 1, .open = 100ms});
  const serve::clock::time_point start{};
  {
    REQUIRE(one.admits(start));
    circuit::ticket(&one).failed(start, "once");
  }
  CHECK_FALSE(one.admits(start + 99ms));
  REQUIRE(one.admits(start + 100ms));
  CHECK(one.state() == circuit_state::half_open);
  CHECK_FALSE(one.admits(start + 1h));
  CHECK(one.reason(start).find("is being tried by another request") != std::string::npos);
  { const circuit::ticket thrown(&one); }
  CHECK(one.admits(start + 100ms));
}

TEST_CASE("a request from before the circuit opened decides nothing", "[serve]") {
  using namespace circuit_case;
  circuit one({.failures = 1, .open = 100ms});
  const serve::clock::time_point start{};
  circuit::ticket fails(&one), succeeds(&one);
  auto gives_up = std::make_unique<circuit::ticket>(&one);
  circuit::ticket(&one).failed(start, "once");
  REQUIRE(one.admits(start + 100ms));
  circuit::ticket trial(&one);
  fails.failed(start + 110ms, "late");
  succeeds.succeeded();
  gives_up.reset();
  CHECK(one.state() == circuit_state::half_open);
  CHECK_FALSE(one.admits(start + 1h));
  trial.succeeded();
  CHECK(one.state() == circuit_state::closed);
}

TEST_CASE("clients of one endpoint share its circuit, from several threads", "[serve]") {
  using namespace circuit_case;
  auto shared = std::make_shared<circuit>(serve::circuit_options{.failures = 50, .open = 1h});
  std::atomic<int> sent{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      virtual_world world;
      breaker with(virtual_transport(world,
                                     [&](const auto&) {
                                       ++sent;
                                       virtual_exchange one;
                                       one.refused = true;
                                       return one;
                                     }),
                   shared, test::virtual_time{&world});
      serve::http_request request;
      for (int i = 0; i < 200; ++i) {
        request.deadline = world.now + 1s;
        (void)with.post(request, [](const auto&, std::string_view) { return true; });
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(shared->state() == circuit_state::open);
  CHECK(sent >= 50);
  CHECK(sent <= 53);  // those that were on their way when it opened
}

TEST_CASE("an open circuit ends a call that would retry", "[serve]") {
  using namespace circuit_case;
  patient p;
  p.status = 0;
  serve::retrying<breaker, test::virtual_time> with(std::move(p.with), {.retries = 20, .seed = 1},
                                                    test::virtual_time{&p.world});
  serve::http_request request;
  request.url = "http://x/v1";
  request.deadline = p.world.now + 1h;
  serve::traffic counted;
  request.counted = &counted;
  const auto response = with.post(request, [](const auto&, std::string_view) { return true; });
  REQUIRE_FALSE(response);
  CHECK(response.error().code == errc::unavailable);
  CHECK(response.error().text.find("last refused") != std::string::npos);
  CHECK(counted.attempts == 5);
}
