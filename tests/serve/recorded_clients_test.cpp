// SPDX-License-Identifier: MIT
// What OpenAI's Python package and curl sent, byte by byte, is sent again, and the answers are held
// against what they understood (fixtures/record_openai.py).
#include <crayon/serve/engine_generator.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <charconv>
#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/adapter/peft.hpp>
#include <crayon/engine/open.hpp>
#include <crayon/io/file.hpp>
#include <crayon/serve/http_server.hpp>
#include <crayon/serve/sse.hpp>

#include "../catch.hpp"

namespace recorded_clients_test {

using namespace crayon;
using nlohmann::json;
using config = engine::default_config;
using generator = serve::engine_generator<config>;

const std::string assets = CRAYON_SOURCE_DIR "/examples/crayon_cli/demo/assets/";

/// `crayon serve --model device --adapters .`, without the program.
std::unique_ptr<serve::http_server<generator>> demo_server() {
  auto device = engine::open(assets + "device", assets + "device/tokenizer.bin");
  REQUIRE(device);
  auto one = adapter::load_peft<float>(assets + "one-for-all");
  REQUIRE(one);
  std::vector<adapter::lora_adapter<float>> adapters;
  adapters.push_back(std::move(one->adapter));
  auto shelf = generator::shelf_type::make(std::move(adapters), {"one-for-all"});
  REQUIRE(shelf);
  serve::server_options options;
  options.adapters = {"one-for-all"};
  options.blends = true;
  return std::make_unique<serve::http_server<generator>>(options,
                                                         generator(*std::move(device), *shelf));
}

struct answer {
  int status = 0;
  std::string head, body;
  [[nodiscard]] bool has(const std::string& line) const {
    return head.find("\r\n" + line + "\r\n") != std::string::npos;
  }
};

/// A chunked body without its chunks; empty if they are no such thing.
std::string joined(std::string_view chunks) {
  std::string all;
  for (;;) {
    std::size_t size = 0;
    const auto read = std::from_chars(chunks.data(), chunks.data() + chunks.size(), size, 16);
    chunks.remove_prefix(static_cast<std::size_t>(read.ptr - chunks.data()));
    if (chunks.size() < size + 4 || chunks.substr(0, 2) != "\r\n" ||
        chunks.substr(size + 2, 2) != "\r\n") {
      return {};
    }
    all += chunks.substr(2, size);
    chunks.remove_prefix(size + 4);
    if (size == 0) return all;
  }
}

answer send_again(std::uint16_t port, const std::string& request) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::send(socket, request.data(), request.size(), 0) ==
          static_cast<ssize_t>(request.size()));
  ::shutdown(socket, SHUT_WR);  // the server ends the connection then
  std::string all;
  char bytes[4096];
  for (ssize_t n; (n = ::recv(socket, bytes, sizeof bytes, 0)) > 0;) {
    all.append(bytes, static_cast<std::size_t>(n));
  }
  ::close(socket);
  const std::size_t end = all.find("\r\n\r\n");
  REQUIRE(all.starts_with("HTTP/1.1 "));
  REQUIRE(end != std::string::npos);
  answer got{std::stoi(all.substr(9)), all.substr(0, end + 2), all.substr(end + 4)};
  if (got.has("Transfer-Encoding: chunked")) {
    got.body = joined(got.body);
  } else {
    CHECK(got.has("Content-Length: " + std::to_string(got.body.size())));
  }
#ifdef CPPHTTPLIB_ZLIB_SUPPORT
  if (got.has("Content-Encoding: gzip")) {
    std::string plain;
    httplib::detail::gzip_decompressor unpack;
    CHECK(unpack.decompress(got.body.data(), got.body.size(), [&](const char* bytes, size_t size) {
      plain.append(bytes, size);
      return true;
    }));
    got.body = plain;
  }
#endif
  return got;
}

/// Where two documents differ; ids and times do, and log-probabilities do by rounding.
std::string difference(const json& a, const json& b, const std::string& at) {
  if (a.is_object() && b.is_object()) {
    for (const auto& [key, value] : a.items()) {
      if (!b.contains(key)) return at + "/" + key + " is missing";
    }
    for (const auto& [key, value] : b.items()) {
      if (!a.contains(key)) return at + "/" + key + " is new";
      if (key == "created" || (key == "id" && a.contains("choices"))) continue;
      auto found = difference(a[key], value, at + "/" + key);
      if (!found.empty()) return found;
    }
    return {};
  }
  if (a.is_array() && b.is_array() && a.size() == b.size()) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      auto found = difference(a[i], b[i], at + "/" + std::to_string(i));
      if (!found.empty()) return found;
    }
    return {};
  }
  const bool numbers = a.is_number_float() && b.is_number_float();
  const bool same = numbers ? std::abs(a.get<double>() - b.get<double>()) < 2e-3 : a == b;
  return same ? std::string() : at + ": " + a.dump() + " was recorded, now " + b.dump();
}

void replay(const std::string& file) {
  const auto text = io::mapped_file::open(CRAYON_FIXTURES "/" + file);
  REQUIRE(text);
  const auto bytes = text->bytes();
  const auto record =
      json::parse(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  REQUIRE(record.size() >= 6);
  const auto server = demo_server();
  const auto port = server->start();
  REQUIRE(port);
  for (const auto& one : record) {
    const std::string name = one["name"];
    const bool stream = one["stream"];
    CAPTURE(file, name);
    const answer got = send_again(*port, one["request"]);
    CAPTURE(got.head, got.body);
    CHECK(got.status == one["status"]);
    CHECK(got.has(stream ? "Content-Type: text/event-stream" : "Content-Type: application/json"));
    json said;
    if (stream) {
      said = json::array();
      bool done = false;
      serve::sse_parser events;
      events.feed(got.body, [&](const serve::sse_event& event) {
        CHECK_FALSE(done);
        done = event.data == "[DONE]";
        if (!done) said.push_back(json::parse(event.data));
        return true;
      });
      CHECK(done);
      for (const auto& event : said) CHECK(event["id"] == said[0]["id"]);
    } else {
      said = json::parse(got.body);
    }
    CHECK(difference(one["parsed"], said, "") == "");
  }
}

TEST_CASE("OpenAI's Python package understands the server", "[serve]") {
  replay("openai_python.json");
}

TEST_CASE("curl understands the server", "[serve]") {
  replay("curl.json");
}

}  // namespace recorded_clients_test
