// SPDX-License-Identifier: MIT
// The table "When the server fails" of the README, row by row, with the client as it comes.
#include <crayon/serve/openai_client.hpp>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../catch.hpp"
#include "scripted_server.hpp"
#include "tls_server.hpp"

namespace {

namespace contract {

using namespace std::chrono_literals;
using namespace crayon;
using ms = std::chrono::milliseconds;
using test::script;
using test::scripted_server;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr auto slack = 500ms;
#else
constexpr auto slack = 50ms;
#endif

std::string head(const std::string& status, const std::string& type, const std::string& more = "") {
  return "HTTP/1.1 " + status + "\r\nContent-Type: " + type + "\r\n" + more + "\r\n";
}
std::string piece(const std::string& text) {
  return R"(data: {"choices":[{"delta":{"content":")" + text + "\"}}]}\n\n";
}
const std::string stream = head("200 OK", "text/event-stream");
const std::string done = "data: [DONE]\n\n";
const script good{{{0, stream + piece("four") + done}}};

std::string page(const std::string& status, const std::string& more = "") {
  return head(status, "application/json", more) + R"({"error":{"message":"because"}})";
}

/// What a row promises, next to the server that makes it happen.
struct row {
  std::string name;  ///< as the README has it
  std::vector<script> servers;
  errc code = errc::network_failed;
  std::vector<std::string> says;  ///< parts of the error's text; none: the call works
  std::string text = "";          ///< that the caller has
  int attempts = 1;
  ms at_least = 0ms;
  ms deadline = 2000ms;
  ms at_most = deadline;
  serve::wait_limits limits = {};
};

script then_silent(std::string sent) {
  return {{{0, std::move(sent)}}, true};
}

const std::vector<row> rows{
    {"HTTP 401, 403, 404, another 4xx",
     {{{{0, page("401 No")}}}},
     errc::network_failed,
     {"HTTP 401", "because"}},
    {"a redirect",
     {{{{0, head("307 Go", "text/plain", "Location: /else\r\n")}}}},
     errc::network_failed,
     {"HTTP 307"}},
    {"HTTP 429, 503 with `Retry-After` within the deadline",
     {{{{0, page("429 Slow", "Retry-After: 1\r\n")}}}, good},
     {},
     {},
     "four",
     2,
     1000ms},
    {"`Retry-After` beyond the deadline",
     {{{{0, page("429 Slow", "Retry-After: 9\r\n")}}}},
     errc::network_failed,
     {"HTTP 429, retry after \"9\"", "because"},
     "",
     1,
     0ms,
     2000ms,
     500ms},
    {"HTTP 408, 429, 500, 502, 503, 504",
     {{{{0, page("500 Broken")}}}},
     errc::network_failed,
     {"HTTP 500", "because"},
     "",
     3},
    {"the same, and then it works", {{{{0, page("500 Broken")}}}, good}, {}, {}, "four", 2},
    {"silence before the first byte",
     {{{}, true}},
     errc::timed_out,
     {"no first token within 100 ms", "attempt 3"},
     "",
     3,
     300ms,
     2000ms,
     700ms,
     {.first_token = 100ms}},
    {"silence until the deadline",
     {{{}, true}},
     errc::timed_out,
     {"before the deadline"},
     "",
     1,
     300ms,
     300ms},
    {"comments and no token",
     {{{{0, stream}, {20, ": wait\n\n", 200}}, true}},
     errc::timed_out,
     {"no first token within 150 ms"},
     "",
     1,
     150ms,
     2000ms,
     300ms,
     {.first_token = 150ms}},
    {"silence after the first byte",
     {then_silent(stream + piece("fo"))},
     errc::timed_out,
     {"no further byte within 150 ms"},
     "fo",
     1,
     150ms,
     2000ms,
     300ms,
     {.idle = 150ms}},
    {"a stream that is cut or ends without `[DONE]`",
     {{{{0, stream + piece("fo")}}}},
     errc::network_failed,
     {"without [DONE]"},
     "fo"},
    {"the connection is reset in the answer",
     {{{{0, stream + piece("fo")}, {60, ""}}, false, true}},
     errc::network_failed,
     {"cut"},
     "fo"},
    {"the connection is cut before the first byte", {{{}}, good}, {}, {}, "four", 2},
    {"malformed JSON",
     {{{{0, head("200 OK", "application/json") + "{\"choices\": ["}}}},
     errc::network_failed,
     {"malformed JSON"}},
    {"HTML",
     {{{{0, head("200 OK", "text/html") + "<html>Log in"}}}},
     errc::network_failed,
     {"text/html", "<html>Log in"}},
    {"an error inside the stream",
     {{{{0, stream + piece("fo") + "data: {\"error\":{\"message\":\"because\"}}\n\n"}}}},
     errc::network_failed,
     {"reports an error", "because"},
     "fo"},
    {"100 MB",
     {{{{0, stream}, {0, ": " + std::string(1 << 20, 'x') + "\n", 100}}, true}},
     errc::network_failed,
     {"longer than 16777216 bytes"},
     "",
     1,
     0ms,
     5000ms},
    {"a slow drip",
     {{{{0, stream}, {15, piece("x"), 300}}, true}},
     errc::timed_out,
     {"before the deadline"},
     "x",
     1,
     300ms,
     300ms},
};

struct seen {
  remote_answer answer;
  std::string pieces;
  ms took{};
};

serve::openai_client client_of(serve::client_options options, serve::curl_options curl = {}) {
  return serve::openai_client(
      std::move(options), serve::reliable_transport(serve::circuit_breaker<serve::curl_transport>(
                                                        serve::curl_transport(std::move(curl))),
                                                    {.base = 5ms}));
}

seen ask(serve::openai_client& client, const generation_options& options = {}) {
  seen all;
  const auto start = serve::clock::now();
  all.answer = client.complete("What is 2 + 2?", options, [&](std::string_view text) {
    all.pieces += text;
    return true;
  });
  all.took = std::chrono::ceil<ms>(serve::clock::now() - start);
  return all;
}

serve::client_options to(const std::string& url, ms deadline, serve::wait_limits limits = {}) {
  serve::client_options options;
  options.base_url = url + "/v1";
  options.api_key = "sk-12345";
  options.deadline = deadline;
  options.limits = limits;
  return options;
}

void check_failure(const seen& all, errc code, const std::vector<std::string>& says) {
  REQUIRE_FALSE(all.answer.outcome);
  const auto& failure = all.answer.outcome.error();
  CAPTURE(failure.text);
  CHECK(failure.code == code);
  CHECK(failure.text.find_first_of("\r\n") == std::string::npos);
  CHECK(failure.text.find("sk-12345") == std::string::npos);
  for (const auto& part : says) CHECK(failure.text.find(part) != std::string::npos);
}

/// A port whose queue of connections is full: a further one is neither accepted nor refused.
class full_listener {
 public:
  full_listener() {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener_, generic, size) != 0 || listen(listener_, 0) != 0 ||
        getsockname(listener_, generic, &size) != 0) {
      return;
    }
    port_ = ntohs(address.sin_port);
    for (int i = 0; i < 4; ++i) {
      waiting_.push_back(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      (void)connect(waiting_.back(), generic, size);
    }
    std::this_thread::sleep_for(20ms);
  }
  ~full_listener() {
    for (const int one : waiting_) close(one);
    close(listener_);
  }
  full_listener(const full_listener&) = delete;
  full_listener& operator=(const full_listener&) = delete;
  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  int listener_ = -1, port_ = 0;
  std::vector<int> waiting_;
};

}  // namespace contract

}  // namespace

TEST_CASE("when the server fails: what a server does with a request", "[serve]") {
  using namespace contract;
  for (const auto& r : rows) {
    DYNAMIC_SECTION(r.name) {
      // A machine that is busy elsewhere may be late once; a call that hangs is late always.
      for (int tries = 0;; ++tries) {
        scripted_server server(r.servers[0], {r.servers.begin() + 1, r.servers.end()});
        auto client = client_of(to(server.url(), r.deadline, r.limits));
        const seen all = ask(client);
        if (tries < 3 && all.took > r.at_most + slack) continue;
        CAPTURE(all.took.count());
        CHECK(all.took <= r.at_most + slack);
        CHECK(all.took >= r.at_least);
        if (r.says.empty()) {
          CHECK(all.answer.outcome);
        } else {
          check_failure(all, r.code, r.says);
        }
        CHECK(all.pieces == all.answer.text);  // the caller has it once, from one attempt
        if (r.name == "a slow drip") {
          CHECK(all.answer.text.size() > 3);
          CHECK(all.answer.text.find_first_not_of('x') == std::string::npos);
        } else {
          CHECK(all.answer.text == r.text);
        }
        CHECK(all.answer.attempts == static_cast<std::size_t>(r.attempts));
        CHECK(server.requests() == r.attempts);
        CHECK(all.answer.bytes_sent == server.bytes_received());
        CHECK(all.answer.endpoint == server.url() + "/v1");
        CHECK(all.answer.deadline_left_ms <=
              static_cast<double>((r.deadline - r.at_least + 5ms).count()));
        CHECK(all.answer.deadline_left_ms > -static_cast<double>(slack.count()));
        break;
      }
    }
  }
}

TEST_CASE("when the server fails: no request reaches it", "[serve]") {
  using namespace contract;
  SECTION("nobody listens") {
    std::string url;
    {
      scripted_server gone({});
      url = gone.url();
    }
    auto client = client_of(to(url, 2s));
    const seen all = ask(client);
    check_failure(all, errc::network_failed, {url, "onnect", "(attempt 3)"});
    CHECK(all.answer.attempts == 3);
    CHECK(all.answer.bytes_sent == 0);
    CHECK(all.took < 1s);

    SECTION("the circuit is open") {
      ask(client);
      const seen at_once = ask(client);
      check_failure(at_once, errc::unavailable, {url, "not asked: it failed 5 times in a row"});
      CHECK(at_once.answer.attempts == 0);
      CHECK(at_once.answer.bytes_sent == 0);
      CHECK(at_once.took < 20ms);
    }
  }
  SECTION("the host is unknown") {
    auto client = client_of(to("http://crayon-test.invalid", 1500ms));
    const seen all = ask(client);
    REQUIRE_FALSE(all.answer.outcome);  // refused by the name server, or that is silent
    CHECK(all.answer.outcome.error().text.starts_with("http://crayon-test.invalid/v1/chat"));
    CHECK(all.answer.bytes_sent == 0);
    CHECK(all.took <= 1500ms + slack);
  }
  SECTION("no connection comes about") {
    const full_listener full;
    auto client = client_of(to(full.url(), 5s, {.connect = 150ms}));
    const seen all = ask(client);
    check_failure(all, errc::timed_out, {"no connection within 150 ms", "(attempt 3)"});
    CHECK(all.answer.bytes_sent == 0);
    CHECK(all.took >= 450ms);
    CHECK(all.took < 1500ms);
  }
#ifdef CPPHTTPLIB_OPENSSL_SUPPORT
  SECTION("the certificate is not trusted, or is another host's") {
    const std::string answer = piece("four") + done;
    const test::tls_server own("IP:127.0.0.1", answer, "own");
    const test::tls_server other("DNS:elsewhere.test", answer, "other");
    auto trusting = client_of(to(own.url(), 5s), {own.certificate_file()});
    const seen works = ask(trusting);
    REQUIRE(works.answer.outcome);
    CHECK(works.answer.text == "four");
    for (const bool is_signed : {false, true}) {
      const auto& server = is_signed ? other : own;
      auto client =
          client_of(to(server.url(), 5s), {is_signed ? other.certificate_file() : std::string()});
      const seen all = ask(client);
      check_failure(all, errc::untrusted, {server.url(), "certificate is refused"});
      CHECK(all.answer.attempts == 1);
      CHECK(all.answer.bytes_sent == 0);  // neither the prompt nor the key
      CHECK(all.took < 2s);
    }
    CHECK(own.requests() == 1);
    CHECK(other.requests() == 0);
  }
#endif
}

TEST_CASE("when the caller gives up, the call ends", "[serve]") {
  using namespace contract;
  // Silent, in the middle of an answer, and between two attempts.
  const std::vector<script> servers{{{}, true},
                                    {{{0, stream + piece("fo")}}, true},
                                    {{{0, page("503 Later", "Retry-After: 4\r\n")}}}};
  for (const auto& one : servers) {
    for (int tries = 0;; ++tries) {
      scripted_server server(one);
      auto client = client_of(to(server.url(), 9s));
      std::atomic<bool> cancelled{false};
      serve::clock::time_point when;
      std::thread other([&] {
        std::this_thread::sleep_for(100ms);
        when = serve::clock::now();
        cancelled = true;
      });
      generation_options options;
      options.cancelled = &cancelled;
      const seen all = ask(client, options);
      const auto late = serve::clock::now() - when;
      other.join();
      if (tries < 3 && late > 50ms) continue;
      CHECK(late <= slack);
      check_failure(all, errc::cancelled, {server.url()});
      CHECK(all.answer.attempts == 1);
      const seen never = ask(client, options);
      check_failure(never, errc::cancelled, {"before it was sent"});
      CHECK(never.answer.bytes_sent == 0);
      break;
    }
  }
}

TEST_CASE("the README's table of failures has the rows that are tested", "[serve]") {
  std::ifstream file(std::string(CRAYON_SOURCE_DIR) + "/README.md");
  const std::string readme((std::istreambuf_iterator<char>(file)), {});
  REQUIRE(readme.size() > 1000);
  std::vector<std::string> names{"nobody listens",
                                 "the circuit is open",
                                 "the host is unknown",
                                 "no connection comes about",
                                 "the certificate is not trusted, or is another host's",
                                 "the caller gives up"};
  for (const auto& r : contract::rows) names.push_back(r.name);
  const auto table = readme.substr(readme.find("## When the server fails"));
  for (const auto& name : names) {
    CAPTURE(name);
    CHECK(table.find("\n| " + name + " |") != std::string::npos);
  }
  const auto end = table.find("\n## ");
  std::size_t rows = 0;
  for (auto at = table.find("\n| "); at < end; at = table.find("\n| ", at + 1)) ++rows;
  CHECK(rows == names.size() + 1);  // and the head
}
