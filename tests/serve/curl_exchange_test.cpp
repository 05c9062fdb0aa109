// SPDX-License-Identifier: MIT
#include <crayon/serve/curl_exchange.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "../catch.hpp"

namespace curl_exchange_test {

using namespace std::chrono_literals;
using crayon::serve::clock;
using crayon::serve::http_request;
using crayon::serve::response_head;
using crayon::serve::detail::curl_exchange;

struct exchange {
  http_request request = {};
  std::string taken = {};
  bool wants_more = true;
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> handle{curl_easy_init(), curl_easy_cleanup};
  std::function<bool(const response_head&, std::string_view)> sink =
      [this](const response_head&, std::string_view bytes) {
        taken += bytes;
        return wants_more;
      };
  curl_exchange one{request, sink, handle.get()};
};

TEST_CASE("of the headers those that say when to come back are kept", "[serve]") {
  exchange e;
  auto& head = e.one.response.head;
  e.one.take_header("HTTP/1.1 503 Service Unavailable\r\n");
  e.one.take_header("RETRY-after: \t 7 \r\n");
  e.one.take_header("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
  e.one.take_header("Retry-After-All: 9\r\n");
  e.one.take_header("no colon\r\n");
  CHECK(head.retry_after == "7");
  CHECK(head.date == "Sun, 06 Nov 1994 08:49:37 GMT");
  e.one.take_header("Retry-After:   \r\n");
  e.one.take_header("Retry-After: " + std::string(65, '1') + "\r\n");
  CHECK(head.retry_after == "7");
  e.one.take_header("HTTP/1.1 200 OK\r\n");  // what came before was an interim response
  CHECK(head.retry_after.empty());
  CHECK(head.date.empty());
}

TEST_CASE("a body is taken until it is enough, or too long", "[serve]") {
  exchange e;
  e.request.max_response_bytes = 10;
  CHECK(e.one.take("12345") == 5);
  CHECK(e.one.take("67890") == 5);
  CHECK(e.one.take("x") == 0);  // libcurl ends the transfer then
  CHECK(e.one.too_long);
  CHECK(e.taken == "1234567890");
  exchange enough;
  enough.wants_more = false;
  CHECK(enough.one.take("1234") == 4);
  CHECK(enough.one.enough);
  CHECK(enough.one.take("5") == 0);
  CHECK(enough.taken == "1234");
}

TEST_CASE("the wait that ends first is the one that is named", "[serve]") {
  exchange e;
  e.request.limits = {0ms, 0ms, 0ms};
  CHECK((e.one.patience() == clock::time_point::max()));
  e.request.limits.first_token = 300ms;
  CHECK(e.one.patience() == e.one.begun + 300ms);
  CHECK(e.one.limit.text() == "no first token within 300 ms");
  e.request.limits.connect = 200ms;
  CHECK(e.one.patience() == e.one.begun + 200ms);
  CHECK(e.one.limit.text() == "no connection within 200 ms");
  e.request.limits.idle = 50ms;
  CHECK(e.one.patience() == e.one.begun + 200ms);  // nothing has come yet
  e.one.take("x");
  CHECK(e.one.patience() == e.one.last_byte + 50ms);
  CHECK(e.one.limit.text() == "no further byte within 50 ms");
  bool answering = false;  // what came was no token
  e.request.answering = &answering;
  CHECK(e.one.patience() == e.one.begun + 200ms);
}

}  // namespace curl_exchange_test
