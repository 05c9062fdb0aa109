// SPDX-License-Identifier: MIT
// The Retry-After header (RFC 9110, 10.2.3): seconds, or a date in one of three forms.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string_view>

namespace crayon::serve {

namespace detail {

[[nodiscard]] inline std::optional<int> decimal(std::string_view text) noexcept {
  if (text.empty() || text.size() > 9) return std::nullopt;
  int value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = 10 * value + (c - '0');
  }
  return value;
}

/// "hh:mm:ss"
[[nodiscard]] inline std::optional<std::chrono::seconds> time_of_day(
    std::string_view text) noexcept {
  if (text.size() != 8 || text[2] != ':' || text[5] != ':') return std::nullopt;
  const auto h = decimal(text.substr(0, 2)), m = decimal(text.substr(3, 2)),
             s = decimal(text.substr(6));
  if (!h || !m || !s || *h > 23 || *m > 59 || *s > 60) return std::nullopt;
  return std::chrono::seconds(*h * 3600 + *m * 60 + *s);
}

[[nodiscard]] inline unsigned month_of(std::string_view name) noexcept {
  constexpr std::string_view names = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const std::size_t at = name.size() == 3 ? names.find(name) : std::string_view::npos;
  return at % 3 == 0 && at < names.size() ? static_cast<unsigned>(at / 3) + 1 : 0;
}

}  // namespace detail

/// "Sun, 06 Nov 1994 08:49:37 GMT", or the obsolete "Sunday, 06-Nov-94 08:49:37 GMT" and
/// "Sun Nov  6 08:49:37 1994". Nothing for anything else.
[[nodiscard]] inline std::optional<std::chrono::system_clock::time_point> parse_http_date(
    std::string_view text) noexcept {
  namespace chrono = std::chrono;
  std::array<std::string_view, 6> words;  // weekday, then day, month, year, time in some order
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find_first_of(" ,-", at), text.size());
    if (end > at) {
      if (count == words.size()) return std::nullopt;
      words[count++] = text.substr(at, end - at);
    }
    at = end + 1;
  }
  const bool asctime = count == 5;
  if (count < 5 || (count == 6 && words[5] != "GMT")) return std::nullopt;
  const auto day = detail::decimal(words[asctime ? 2 : 1]);
  const unsigned month = detail::month_of(words[asctime ? 1 : 2]);
  auto year = detail::decimal(words[asctime ? 4 : 3]);
  const auto time = detail::time_of_day(words[asctime ? 3 : 4]);
  if (!day || month == 0 || !year || !time) return std::nullopt;
  if (words[asctime ? 4 : 3].size() == 2) *year += *year < 70 ? 2000 : 1900;
  const chrono::year_month_day date{chrono::year(*year), chrono::month(month),
                                    chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  return chrono::sys_days(date) + *time;
}

/// How long to wait; nothing where the header is absent or makes no sense. A date counts from the
/// server's own Date header where there is one, so that clocks that differ do no harm.
[[nodiscard]] inline std::optional<std::chrono::milliseconds> retry_delay(
    std::string_view retry_after, std::string_view date,
    std::chrono::system_clock::time_point now) noexcept {
  if (const auto seconds = detail::decimal(retry_after)) return std::chrono::seconds(*seconds);
  const auto until = parse_http_date(retry_after);
  if (!until) return std::nullopt;
  const auto from = parse_http_date(date).value_or(now);
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(*until - from),
                  std::chrono::milliseconds(0));
}

}  // namespace crayon::serve
