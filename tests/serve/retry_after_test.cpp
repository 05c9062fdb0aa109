// SPDX-License-Identifier: MIT
#include <crayon/serve/retry_after.hpp>

#include <chrono>
#include <string_view>

#include "../catch.hpp"

TEST_CASE("the three forms of a date in HTTP", "[serve]") {
  using crayon::serve::parse_http_date;
  const auto expected = std::chrono::system_clock::from_time_t(784111777);  // RFC 9110, 5.6.7
  for (const char* text : {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                           "Sun Nov  6 08:49:37 1994"}) {
    CAPTURE(text);
    REQUIRE(parse_http_date(text));
    CHECK(*parse_http_date(text) == expected);
  }
  CHECK(*parse_http_date("Thu, 29 Feb 2024 00:00:00 GMT") ==
        std::chrono::system_clock::from_time_t(1709164800));
  for (const char* text :
       {"", "soon", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 ovD 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT GMT", "Sun, 99999999999 Nov 1994 08:49:37 GMT"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_http_date(text));
  }
}

TEST_CASE("how long Retry-After asks to wait", "[serve]") {
  using crayon::serve::retry_delay;
  using namespace std::chrono_literals;
  const auto now = std::chrono::system_clock::from_time_t(784111777 - 90);
  const std::string_view date = "Sun, 06 Nov 1994 08:49:37 GMT";
  CHECK(*retry_delay("7", "", now) == 7s);
  CHECK(*retry_delay("0", "", now) == 0s);
  CHECK(*retry_delay(date, "", now) == 90s);
  CHECK(*retry_delay(date, "nonsense", now) == 90s);
  CHECK(*retry_delay(date, "Sun, 06 Nov 1994 08:49:35 GMT", now) == 2s);  // the server's clock
  CHECK(*retry_delay(date, "Sun, 06 Nov 1994 09:00:00 GMT", now) == 0s);  // in the past
  for (const char* text : {"", "-1", "1.5", "7 s", "9999999999"}) {
    CHECK_FALSE(retry_delay(text, "", now));
  }
}
