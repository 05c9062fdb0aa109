// SPDX-License-Identifier: MIT
// One request and its response, as libcurl's callbacks see them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <string>
#include <string_view>

#include <curl/curl.h>

#include <crayon/serve/transport.hpp>

namespace crayon::serve::detail {

struct wait_limit {
  const char* waited_for = nullptr;
  std::chrono::milliseconds most{};

  [[nodiscard]] std::string text() const {
    return std::string("no ") + waited_for + " within " + std::to_string(most.count()) + " ms";
  }
};

/// A header's name, whatever its case, against one in lower case.
[[nodiscard]] inline bool is_named(std::string_view name, std::string_view lower) noexcept {
  return std::equal(name.begin(), name.end(), lower.begin(), lower.end(), [](char a, char b) {
    return a == b || (a >= 'A' && a <= 'Z' && a - 'A' + 'a' == b);
  });
}

struct curl_exchange {
  curl_exchange(const http_request& asked, body_sink to, CURL* handle)
      : request(asked), sink(to), easy(handle) {}

  const http_request& request;
  body_sink sink;
  CURL* easy;
  http_response response = {};
  std::exception_ptr thrown = {};
  traffic uncounted = {};  // for a caller who does not want to know
  traffic& counted = request.counted != nullptr ? *request.counted : uncounted;
  clock::time_point begun = clock::now();
  clock::time_point last_byte = begun;  // of the body
  clock::time_point enough_since = {};
  wait_limit limit = {};  // the one that passed
  bool enough = false;    // the sink wants no more
  bool too_long = false;

  void read_status() {
    long status = 0;
    const char* type = nullptr;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy, CURLINFO_CONTENT_TYPE, &type);
    response.head.status = static_cast<int>(status);
    response.head.content_type = type ? type : "";
  }

  void count_connections() const {
    long opened = 0;
    curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &opened);
    counted.connections += static_cast<std::size_t>(opened);
  }

  /// Name resolved, connected, and shaken hands.
  [[nodiscard]] bool connected() const {
    curl_off_t microseconds = 0;
    curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &microseconds);
    return microseconds > 0;
  }

  std::size_t take(std::string_view bytes) {
    if (enough) return 0;
    if (response.bytes == 0) read_status();
    last_byte = clock::now();
    counted.bytes_received += bytes.size();
    response.bytes += bytes.size();
    if (response.bytes > request.max_response_bytes) {
      too_long = true;
      return 0;
    }
    if (!sink(response.head, bytes)) {
      enough = true;
      enough_since = clock::now();
    }
    return bytes.size();
  }

  void take_header(std::string_view line) {
    if (line.starts_with("HTTP/")) response.head = {};  // the one before was an interim response
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    auto* kept = is_named(line.substr(0, colon), "retry-after") ? &response.head.retry_after
                 : is_named(line.substr(0, colon), "date")      ? &response.head.date
                                                                : nullptr;
    if (kept == nullptr) return;
    const std::size_t first = line.find_first_not_of(" \t", colon + 1);
    const std::size_t last = line.find_last_not_of(" \t\r\n");
    if (first != std::string_view::npos && first <= last && last - first < 64) {
      *kept = line.substr(first, last - first + 1);
    }
  }

  /// When the wait that is going on now ends; `limit` is then what ends it.
  [[nodiscard]] clock::time_point patience() {
    const auto& limits = request.limits;
    auto until = clock::time_point::max();
    const auto consider = [&](wait_limit one, clock::time_point from) {
      if (one.most.count() == 0 || from + one.most >= until) return;
      until = from + one.most;
      limit = one;
    };
    if (request.answering != nullptr ? *request.answering : response.bytes > 0) {
      consider({"further byte", limits.idle}, last_byte);
    } else {
      consider({"first token", limits.first_token}, begun);
      if (!connected()) consider({"connection", limits.connect}, begun);
    }
    return until;
  }
};

}  // namespace crayon::serve::detail
