// SPDX-License-Identifier: MIT
#include <crayon/serve/pool_routes.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "../catch.hpp"

namespace pool_routes_test {

using namespace std::chrono_literals;
using crayon::errc;
using crayon::error;
using crayon::result;

/// Says what is wrong in the words of the body.
struct scripted_pool {
  [[nodiscard]] std::string index() const { return "the index"; }
  [[nodiscard]] result<std::string> answer(const std::string& type, const std::string& body) const {
    if (body == "type") return error{errc::unsupported, "another type: " + type};
    if (body == "pool") return error{errc::mismatch, "another pool"};
    if (body == "bytes") return error{errc::bad_value, "too short"};
    return "an adapter";
  }
};

TEST_CASE("a refusal says when to come back, unless there is nobody to come back to", "[serve]") {
  using crayon::serve::refusal;
  for (const auto why : {refusal::full, refusal::late, refusal::closing}) {
    httplib::Response out;
    crayon::serve::refuse(out, why, 7);
    CHECK(out.status == (why == refusal::full ? 429 : 503));
    CHECK(out.get_header_value("Retry-After") == (why == refusal::closing ? "" : "7"));
    CHECK(out.body.find("\"error\":{") != std::string::npos);
  }
}

TEST_CASE("what a pool refuses has a status of its own", "[serve]") {
  httplib::Server http;
  crayon::serve::admission places(1, 0);
  crayon::serve::server_metrics metrics;
  crayon::serve::add_pool_routes(http, std::make_shared<const scripted_pool>(), places, 50ms,
                                 metrics);
  const int port = http.bind_to_any_port("127.0.0.1");
  REQUIRE(port > 0);
  std::thread listener([&] { http.listen_after_bind(); });
  while (!http.is_running()) std::this_thread::yield();
  httplib::Client client("127.0.0.1", port);
  const auto blend = [&](const std::string& body) {
    const auto got = client.Post("/v1/blend", body, "a/type");
    return got ? std::to_string(got->status) + " " + got->body : std::string("nothing");
  };
  const auto index = client.Get("/v1/pool/index");
  CHECK((index && index->body == "the index"));
  const auto posted = client.Post("/v1/pool/index", "", "a/type");
  CHECK((posted && posted->body == "the index"));
  CHECK(blend("good") == "200 an adapter");
  CHECK(blend("type").find("415 ") == 0);
  CHECK(blend("type").find("another type: a/type") != std::string::npos);
  CHECK(blend("pool").find("409 ") == 0);
  CHECK(blend("pool").find("pool_mismatch") != std::string::npos);
  CHECK(blend("bytes").find("400 ") == 0);
  {
    crayon::serve::refusal why{};
    const auto taken = places.enter(0ms, why);
    REQUIRE(taken);
    CHECK(blend("good").find("429 ") == 0);  // one place, and none to wait
  }
  CHECK(blend("good") == "200 an adapter");
  places.close(0ms);
  CHECK(blend("good").find("503 ") == 0);
  CHECK(metrics.text(0, 0).find("crayon_blends_total 2\n") != std::string::npos);
  http.stop();
  listener.join();
}

}  // namespace pool_routes_test
