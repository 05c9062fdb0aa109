// SPDX-License-Identifier: MIT
#include <crayon/serve/deadline_server.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <atomic>
#include <chrono>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <crayon/serve/http_server.hpp>

#include "../catch.hpp"

namespace deadline_server_test {

using namespace std::chrono_literals;
using crayon::piece_sink;
using crayon::result;
using clock = std::chrono::steady_clock;
using crayon::serve::generation;
using crayon::serve::generation_request;
using crayon::serve::http_server;
using crayon::serve::server_options;

/// "x"; or, asked for "endless", 32 KB at a time for as long as the client takes them.
struct flood {
  std::shared_ptr<std::atomic<int>> started = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<std::atomic<int>> ended = std::make_shared<std::atomic<int>>(0);

  result<generation> operator()(const generation_request& request, piece_sink sink) {
    ++*started;
    const std::string piece(32768, 'x');
    if (request.prompt != "endless") {
      sink("x");
    } else {
      while (sink(piece)) {
      }
    }
    ++*ended;
    return generation{1, 1, false};
  }
};

struct served {
  explicit served(const server_options& options, flood one = {})
      : model(one), server(options, one) {
    const auto bound = server.start();
    REQUIRE(bound);
    port = *bound;
  }
  flood model;
  http_server<flood> server;
  std::uint16_t port = 0;
};

/// A client that decides itself when it sends and when it reads.
class raw_client {
 public:
  explicit raw_client(std::uint16_t port, int receive_buffer = 0)
      : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) {
      setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  raw_client(const raw_client&) = delete;
  raw_client& operator=(const raw_client&) = delete;
  ~raw_client() { ::close(socket_); }

  bool send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const auto n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n < 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  /// The next bytes, at most so many, waited for until `most`; empty: none came, or the end.
  [[nodiscard]] std::string read(std::size_t size, std::chrono::milliseconds most) const {
    pollfd one{socket_, POLLIN, 0};
    if (::poll(&one, 1, static_cast<int>(most.count())) <= 0) return {};
    std::string bytes(size, '\0');
    const auto n = ::recv(socket_, bytes.data(), size, 0);
    bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return bytes;
  }
  /// All up to the end of the connection.
  [[nodiscard]] std::string rest() const {
    std::string all;
    for (;;) {
      const std::string more = read(65536, 20s);
      if (more.empty()) return all;
      all += more;
    }
  }
  [[nodiscard]] std::string until(const std::string& mark) const {
    std::string all;
    while (all.find(mark) == std::string::npos) {
      const std::string more = read(1, 20s);
      if (more.empty()) break;
      all += more;
    }
    return all;
  }

 private:
  int socket_;
};

std::string asking(const std::string& body, const std::string& headers = "") {
  return "POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
const std::string health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
const std::string bye = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Clients that send a byte every 20 ms, half of them of a header, half of a body, without end.
class dripping {
 public:
  dripping(std::uint16_t port, int count) {
    for (int i = 0; i < count; ++i) {
      auto& one = clients_.emplace_back(port);
      one.send(i % 2 == 0 ? "GET /health HTTP/1.1\r\nX-Long: "
                          : "POST /v1/completions HTTP/1.1\r\nContent-Length: 100000\r\n\r\n");
    }
    thread_ = std::thread([this] {
      while (!stop_) {
        for (const auto& one : clients_) {
          one.send("x");
          const std::string answer = one.read(300, 0ms);
          if (answer.find(" 408 ") != std::string::npos) ++timed_out;
        }
        std::this_thread::sleep_for(20ms);
      }
    });
  }
  dripping(const dripping&) = delete;
  dripping& operator=(const dripping&) = delete;
  ~dripping() {
    stop_ = true;
    thread_.join();
  }
  std::atomic<int> timed_out{0};

 private:
  std::list<raw_client> clients_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// Nothing ends by itself within the time of a test.
server_options patient() {
  server_options options;
  options.connections = {100s, 100s, 100s, 100s};
  return options;
}

TEST_CASE("as many connections give way as wait for a thread", "[serve]") {
  crayon::serve::detail::connections all;
  CHECK_FALSE(all.give_way());
  all.waiting = 2;
  CHECK(all.give_way());
  CHECK(all.give_way());
  CHECK_FALSE(all.give_way());
  --all.leaving;
  CHECK(all.give_way());
}

TEST_CASE("a request has one deadline, however its bytes trickle in", "[serve]") {
  auto options = patient();
  options.connections.read = 300ms;
  served at(options);
  for (const std::string begun : {"G", "GET /health HTTP/1.1\r\n",
                                  "POST /v1/completions HTTP/1.1\r\nContent-Length: 900\r\n\r\n"}) {
    CAPTURE(begun);
    const raw_client client(at.port);
    const auto start = clock::now();
    REQUIRE(client.send(begun));
    std::string answer;
    while (answer.empty() && clock::now() - start < 20s) {
      client.send("x");
      answer = client.read(1, 20ms);
    }
    CHECK(clock::now() - start >= 300ms);
    answer += client.rest();
    CHECK(answer.find("HTTP/1.1 408 Request Timeout\r\n") == 0);
    CHECK(answer.find("\"code\":\"request_timeout\"") != std::string::npos);
    CHECK(answer.find(" 400 ") == std::string::npos);
  }
  const raw_client silent(at.port);
  CHECK(silent.send(bye));
  CHECK(silent.rest().find("HTTP/1.1 200 ") == 0);
}

TEST_CASE("more slow clients than threads do not keep others waiting", "[serve]") {
  auto options = patient();
  options.threads = 3;
  options.connections.crowded = 50ms;
  served at(options);
  dripping slow(at.port, 24);
  const raw_client idle(at.port);  // says nothing at all
  for (int i = 0; i < 3; ++i) {
    const auto start = clock::now();
    const raw_client client(at.port);
    CHECK(client.send(bye));
    CHECK(client.rest().find("HTTP/1.1 200 ") == 0);
    CHECK(clock::now() - start < 20s);  // they would drip for 100 s
  }
  const auto start = clock::now();
  while (slow.timed_out == 0 && clock::now() - start < 20s) std::this_thread::sleep_for(5ms);
  CHECK(slow.timed_out > 0);
}

TEST_CASE("nobody gives way where there are threads for all", "[serve]") {
  auto options = patient();
  options.connections.crowded = 1ms;
  served at(options);
  const raw_client client(at.port);
  const std::string text = asking(R"({"prompt":"y"})", "Connection: close\r\n");
  for (const char c : text) {
    CHECK(client.send(std::string(1, c)));
    std::this_thread::sleep_for(2ms);
  }
  CHECK(client.rest().find("HTTP/1.1 200 ") == 0);
}

TEST_CASE("a client that does not read its answer loses it", "[serve]") {
  auto options = patient();
  options.connections.write = 300ms;
  served at(options);
  for (const bool reads_a_little : {false, true}) {
    CAPTURE(reads_a_little);
    const int before = *at.model.ended;
    const raw_client slow(at.port, 4096);
    REQUIRE(slow.send(asking(R"({"prompt":"endless","stream":true})")));
    const auto start = clock::now();
    while (*at.model.ended == before && clock::now() - start < 20s) {
      if (reads_a_little) (void)slow.read(1, 0ms);
      std::this_thread::sleep_for(5ms);
    }
    CHECK(*at.model.ended == before + 1);
    const raw_client next(at.port);  // the one model is free
    CHECK(next.send(asking(R"({"prompt":"y"})", "Connection: close\r\n")));
    CHECK(next.rest().find("HTTP/1.1 200 ") == 0);
  }
}

TEST_CASE("a client that reads slowly, but reads, gets everything", "[serve]") {
  auto options = patient();
  options.connections.write = 60s;
  served at(options);
  const raw_client slow(at.port, 4096);
  REQUIRE(slow.send(asking(R"({"prompt":"endless","stream":true})")));
  std::size_t got = 0;
  for (int i = 0; i < 400; ++i) got += slow.read(16384, 20s).size();
  CHECK(got > std::size_t{3} << 20 / 2);
  CHECK(*at.model.ended == 0);
}

TEST_CASE("stop ends within its grace, whatever clients do", "[serve]") {
  for (const auto grace : {0ms, 300ms}) {
    CAPTURE(grace.count());
    auto options = patient();
    options.threads = 6;
    options.grace = grace;
    served at(options);
    const raw_client slow_reader(at.port, 4096);
    REQUIRE(slow_reader.send(asking(R"({"prompt":"endless","stream":true})")));
    while (*at.model.started == 0) std::this_thread::sleep_for(1ms);
    const raw_client waits(at.port);
    REQUIRE(waits.send(asking(R"({"prompt":"endless","stream":true})")));
    const raw_client idle(at.port);
    REQUIRE(idle.send(health));
    CHECK(idle.until("}").find("HTTP/1.1 200 ") == 0);
    dripping slow(at.port, 9);
    std::this_thread::sleep_for(50ms);
    const auto start = clock::now();
    at.server.stop();
    const auto took = clock::now() - start;
    CHECK(took >= grace);
    CHECK(took < grace + 5s);  // nothing of theirs would end in 100 s
    CHECK(waits.rest().find("HTTP/1.1 503 ") == 0);
  }
}

TEST_CASE("a request that is half here when the server stops is told so", "[serve]") {
  served at(patient());
  const raw_client half(at.port);
  REQUIRE(half.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\n{"));
  std::this_thread::sleep_for(100ms);  // that it has a thread
  at.server.stop();
  const std::string answer = half.rest();
  CHECK(answer.find("HTTP/1.1 503 ") == 0);
  CHECK(answer.find("the server stops") != std::string::npos);
}

TEST_CASE("a connection serves one request after the other, also those sent at once", "[serve]") {
  served at(patient());
  const raw_client client(at.port);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(client.send(health));
    CHECK(client.until("}").find("HTTP/1.1 200 ") == 0);
  }
  REQUIRE(client.send(health + asking(R"({"prompt":"y"})") + bye));
  const std::string all = client.rest();
  std::size_t answers = 0;
  for (auto i = all.find("HTTP/1.1 200 "); i != std::string::npos;
       i = all.find("HTTP/1.1 200 ", i + 1)) {
    ++answers;
  }
  CHECK(answers == 3);
}

TEST_CASE("an idle connection ends after a while", "[serve]") {
  auto options = patient();
  options.connections.idle = 50ms;
  served at(options);
  const raw_client client(at.port);
  REQUIRE(client.send(health));
  CHECK(client.until("}").find("HTTP/1.1 200 ") == 0);
  CHECK(client.rest().empty());  // closed, without a 408
}

TEST_CASE("a body that is too large is not read to its end, and still answered", "[serve]") {
  auto options = patient();
  options.max_body_bytes = 1000;
  served at(options);
  const raw_client client(at.port);
  REQUIRE(client.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n"));
  REQUIRE(client.send(std::string(200'000, 'x')));
  const std::string answer = client.rest();
  CHECK(answer.find("HTTP/1.1 413 ") == 0);
  CHECK(answer.find("the body is too large") != std::string::npos);
}

TEST_CASE("headers without end are not kept", "[serve]") {
  served at(patient());
  const raw_client client(at.port);
  REQUIRE(client.send("GET /health HTTP/1.1\r\n"));
  const std::size_t most = std::size_t{64} << 20;  // more than two sockets hold
  const std::string line = "X-Header: " + std::string(1000, 'x') + "\r\n";
  std::size_t sent = 0;
  std::string answer;
  while (sent < most && answer.empty() && client.send(line)) {
    sent += line.size();
    answer = client.read(1000, 0ms);
  }
  CHECK(sent < most);
  CHECK(answer.find("HTTP/1.1 400 ") == 0);
}

TEST_CASE("after a body that nobody reads the connection ends", "[serve]") {
  served at(patient());
  for (const std::string text :
       {"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "GET /health HTTP/1.1\r\nContent-Length: 44\r\n\r\nGET /metrics HTTP/1.1\r\nHost: "
        "smuggled\r\n\r\n"}) {
    CAPTURE(text);
    const raw_client client(at.port);
    REQUIRE(client.send(text));
    const std::string answer = client.rest();
    CHECK(answer.find("Connection: close\r\n") != std::string::npos);
    CHECK(answer.find("HTTP/1.1 ") == answer.rfind("HTTP/1.1 "));
  }
}

TEST_CASE("a client that waits for leave to send its body gets it", "[serve]") {
  served at(patient());
  const raw_client client(at.port);
  const std::string body = R"({"prompt":"y"})";
  const std::string text = asking(body, "Expect: 100-continue\r\nConnection: close\r\n");
  REQUIRE(client.send(text.substr(0, text.size() - body.size())));
  CHECK(client.until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  REQUIRE(client.send(body));
  CHECK(client.rest().find("HTTP/1.1 200 ") == 0);
}

}  // namespace deadline_server_test
