// SPDX-License-Identifier: MIT
// A device and a client against servers that fail at random, in virtual time; and private prompts.
#include <crayon/engine/hybrid_engine.hpp>

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/router/always.hpp>
#include <crayon/serve/circuit_breaker.hpp>
#include <crayon/serve/hedged.hpp>
#include <crayon/serve/openai_client.hpp>
#include <crayon/serve/retrying.hpp>

#include "../catch.hpp"
#include "../engine/tiny.hpp"
#include "scripted_server.hpp"
#include "virtual_network.hpp"

namespace {

namespace faults {

using namespace std::chrono_literals;
using namespace crayon;
using engine::answer_source;
using test::virtual_exchange;
using test::virtual_ms;
using test::virtual_world;

using wire = serve::retrying<serve::circuit_breaker<test::virtual_transport, test::virtual_time>,
                             test::virtual_time>;
using client = serve::basic_openai_client<wire, test::virtual_time>;
static_assert(remote<client>);

engine::device_engine<test::tiny_config> device() {
  return *engine::device_engine<test::tiny_config>::make(test::tiny_weights(1, 48), {});
}

/// One request's exchange, and what it means.
struct planned {
  virtual_exchange what;
  std::string text;       ///< of the whole answer
  bool good = false;      ///< it works if the deadline lets it
  bool begins = false;    ///< with a byte of a 200: not to be asked again
  bool hopeless = false;  ///< a status that is not to be asked again
};

/// Attempt `id` of some call; its answer names it, so that no other can be taken for it.
planned draw(rng& random, int id) {
  const auto ms = [&](std::size_t most) { return virtual_ms(random.below(most)); };
  const auto event = [](const std::string& text) {
    return R"(data: {"choices":[{"delta":{"content":")" + text + "\"}}]}\n\n";
  };
  planned out;
  auto& what = out.what;
  what.connects = ms(30);
  const std::string name = "<" + std::to_string(id) + ":";
  const auto whole = [&](std::size_t slow) {
    out.text = name;
    what.parts.push_back({ms(slow), event(name)});
    for (std::size_t i = 1 + random.below(4); i > 0; --i) {
      out.text += "x";
      what.parts.push_back({ms(slow), event("x")});
    }
    out.text += ">";
    what.parts.push_back({ms(slow), event(">")});
    what.parts.push_back({0ms, "data: [DONE]\n\n"});
    out.begins = true;
  };
  const auto shorten = [&] { what.parts.resize(1 + random.below(what.parts.size() - 1)); };
  const auto status = [&](int code) {
    what.head = {code, "application/json"};
    what.parts = {{ms(50), R"({"error":{"message":"because"}})"}};
    if (random.below(3) == 0) what.head.retry_after = std::to_string(random.below(4));
  };
  switch (random.below(12)) {
    case 0:
      what.refused = true;
      break;
    case 1:
      what.connects = 20s;
      break;
    case 2:
      status(std::vector<int>{408, 429, 500, 502, 503, 504}[random.below(6)]);
      break;
    case 3:
      status(std::vector<int>{301, 400, 401, 403, 404, 422}[random.below(6)]);
      out.hopeless = true;
      break;
    case 4:
      what.ends = virtual_exchange::end::silence;
      break;
    case 5:
      what.ends = virtual_exchange::end::cut;
      break;
    case 6:  // cut or silent after a part of the answer
      whole(200);
      shorten();
      what.ends =
          random.below(2) == 0 ? virtual_exchange::end::cut : virtual_exchange::end::silence;
      break;
    case 7:  // no [DONE]
      whole(200);
      what.parts.pop_back();
      break;
    case 8:
      whole(200);
      shorten();
      what.parts.push_back({ms(20), "data: {oops\n\n"});
      break;
    case 9:
      what.head = {200, "text/html"};
      what.parts = {{ms(50), "<html>"}};
      out.begins = true;
      break;
    case 10:  // a drip that may or may not be over in time
      whole(2900);
      out.good = true;
      break;
    default:
      whole(100);
      out.good = true;
  }
  return out;
}

}  // namespace faults

}  // namespace

TEST_CASE("1000 random schedules of faults: nothing hangs, is lost or comes from elsewhere",
          "[serve]") {
  using namespace faults;
  rng random(2024);
  const std::string own = device().answer("2+2=", {.max_tokens = 4})->text;
  REQUIRE_FALSE(own.empty());
  std::size_t by_server = 0, by_device = 0, cut_off = 0, cancelled = 0, retried = 0, open = 0;
  int ids = 0;
  for (int schedule = 0; schedule < 1000; ++schedule) {
    virtual_world world;
    std::vector<planned> asked;
    std::size_t body = 0;
    const std::size_t retries = random.below(4);
    serve::client_options options;
    options.base_url = "http://virtual/v1";
    options.limits = {2s, 3s, 2s};
    client remote(options,
                  wire(serve::circuit_breaker<test::virtual_transport, test::virtual_time>(
                           test::virtual_transport(world,
                                                   [&](const serve::http_request& request) {
                                                     body = request.body.size();
                                                     asked.push_back(draw(random, ids++));
                                                     return asked.back().what;
                                                   }),
                           serve::circuit_options{}, test::virtual_time{&world}),
                       {.retries = retries, .seed = random() | 1}, test::virtual_time{&world}),
                  test::virtual_time{&world});
    const auto limit = static_cast<std::uint32_t>(100 + random.below(9000));
    engine::hybrid_engine hybrid(device(), router::always_server{}, std::move(remote),
                                 {.server_deadline_ms = limit});
    for (int call = 0; call < 4; ++call) {  // one after the other, with one circuit
      asked.clear();
      world.cancelled = false;
      const auto start = world.now;
      world.cancel_at = random.below(10) == 0 ? start + virtual_ms(random.below(limit))
                                              : serve::clock::time_point::max();
      generation_options wanted;
      wanted.max_tokens = 4;
      wanted.cancelled = &world.cancelled;
      std::string pieces;
      const auto answer = hybrid.answer("2+2=", wanted, [&](std::string_view piece) {
        pieces += piece;
        return true;
      });
      const auto took = world.now - start;
      CAPTURE(schedule, call, limit, asked.size(), pieces);
      CHECK(took <= virtual_ms(limit));
      CHECK(asked.size() <= retries + 1);
      for (std::size_t i = 0; i + 1 < asked.size(); ++i) {  // asked again: with reason
        CHECK_FALSE(asked[i].begins);
        CHECK_FALSE(asked[i].hopeless);
      }
      retried += asked.size() > 1;
      if (!answer) {
        CHECK(answer.error().code == errc::cancelled);
        CHECK(world.cancelled);
        ++cancelled;
        continue;
      }
      const auto& record = answer->record;
      CHECK(answer->text == pieces);
      CHECK(record.attempts == asked.size());
      const auto sent = std::count_if(asked.begin(), asked.end(), [](const planned& p) {
        return !p.what.refused && p.what.connects < 2s;
      });
      CHECK(record.bytes_sent <= body * static_cast<std::size_t>(sent));
      const bool last_good = !asked.empty() && asked.back().good;
      switch (record.source) {
        case answer_source::server:
          ++by_server;
          REQUIRE(last_good);
          CHECK(pieces == asked.back().text);
          break;
        case answer_source::server_cut_off:
          ++cut_off;
          REQUIRE_FALSE(pieces.empty());
          CHECK(asked.back().text.starts_with(pieces));
          CHECK(asked.back().begins);
          CHECK_FALSE(record.server_error.empty());
          break;
        case answer_source::device_after_failure: {
          ++by_device;
          CHECK(pieces == own);
          CHECK_FALSE(record.server_error.empty());
          if (asked.empty()) {
            ++open;
            CHECK(record.server_error.find("not asked") != std::string::npos);
            break;
          }
          // Given up for a reason: no attempt left, none that would help, or no time for a wait
          // (the jitter is below 100 ms 2^k, Retry-After below 4 s).
          const planned& last = asked.back();
          const bool circuit = record.server_error.find("not asked") != std::string::npos;
          const auto wait = virtual_ms(100U << (asked.size() - 1)) + 4s;
          CHECK((asked.size() == retries + 1 || last.begins || last.hopeless || circuit ||
                 took + wait >= virtual_ms(limit)));
          break;
        }
        case answer_source::device:
          FAIL("the router sends everything to the server");
      }
    }
  }
  CAPTURE(by_server, by_device, cut_off, cancelled, retried, open);
  for (const auto count : {by_server, by_device, cut_off, cancelled, retried, open}) {
    CHECK(count > 20);  // each way of ending was tried
  }
}

namespace {

namespace privacy {

using namespace crayon;

/// A transport that counts, whatever is around it and in it.
struct counting {
  serve::curl_transport inner;
  serve::traffic* total;
  result<serve::http_response> post(const serve::http_request& request, serve::body_sink sink) {
    auto counted = request;
    counted.counted = total;
    return inner.post(counted, sink);
  }
};

using policy = serve::retrying<serve::circuit_breaker<counting>>;
using client = serve::basic_openai_client<policy>;
using two = serve::hedged<client, client>;

// Everything that sends takes text, and a private prompt is none.
template <class Remote>
constexpr bool takes_private =
    std::is_invocable_v<decltype(&Remote::complete), Remote&, const engine::private_prompt&,
                        const generation_options&, piece_sink>;
static_assert(!takes_private<client> && !takes_private<two>);
static_assert(!takes_private<serve::hedged<two, client>>);
static_assert(!std::is_assignable_v<std::string&, engine::private_prompt>);
static_assert(!std::is_constructible_v<serve::chat_message, std::string, engine::private_prompt>);

std::size_t open_sockets() {
  std::size_t count = 0;
  DIR* folder = opendir("/proc/self/fd");
  while (const dirent* entry = folder ? readdir(folder) : nullptr) {
    char target[64] = "";
    const std::string path = std::string("/proc/self/fd/") + entry->d_name;
    if (readlink(path.c_str(), target, sizeof target - 1) > 0 &&
        std::string_view(target).starts_with("socket:")) {
      ++count;
    }
  }
  if (folder != nullptr) closedir(folder);
  return count;
}

}  // namespace privacy

}  // namespace

TEST_CASE("a private prompt opens no socket and sends no byte, whatever is wrapped and fails",
          "[serve]") {
  using namespace privacy;
  const std::string body =
      "data: {\"choices\":[{\"delta\":{\"content\":\"yes\"}}]}\n\ndata: [DONE]\n\n";
  const std::string answer =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
      "Content-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  test::scripted_server one({{{0, answer}}, true}), other({{{0, answer}}, true});
  serve::traffic total;
  const auto client_to = [&](const test::scripted_server& server) {
    serve::client_options options;
    options.base_url = server.url() + "/v1";
    return client(options, policy(serve::circuit_breaker<counting>(counting{{}, &total})));
  };
  engine::hybrid_engine hybrid(faults::device(), router::always_server{},
                               two(client_to(one), client_to(other)));
  const std::size_t before = open_sockets();
  generation_options options;
  options.max_tokens = 4;
  for (int i = 0; i < 20; ++i) {
    const auto kept = hybrid.answer(engine::private_prompt("my secret"), options);
    REQUIRE(kept);
    CHECK(kept->record.source == engine::answer_source::device);
    CHECK(kept->record.attempts == 0);
    CHECK(kept->record.bytes_sent == 0);
    // Too long for the device: an error, not a reason to ask elsewhere.
    CHECK_FALSE(hybrid.answer(engine::private_prompt(std::string(60, 'x')), options));
  }
  CHECK(open_sockets() == before);
  CHECK(total.attempts == 0);
  CHECK(total.connections == 0);
  CHECK(total.bytes_sent == 0);
  CHECK(one.connections() + other.connections() == 0);

  // The same words without the type are sent: the counters count.
  const auto sent = hybrid.answer("my secret", options);
  REQUIRE(sent);
  CHECK(sent->text == "yes");
  CHECK(total.attempts == 1);
  CHECK(total.connections == 1);
  CHECK(total.bytes_sent == one.bytes_received() + other.bytes_received());
  CHECK(open_sockets() > before);
  CHECK(one.last_request().find("my secret") != std::string::npos);
}
