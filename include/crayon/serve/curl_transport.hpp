// SPDX-License-Identifier: MIT
// HTTP over libcurl.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <curl/curl.h>

#include <crayon/serve/curl_exchange.hpp>
#include <crayon/serve/transport.hpp>

namespace crayon::serve {

struct curl_options {
  std::string ca_file = {};  ///< PEM; empty: the system's certificates
};

/// One easy handle on one multi handle, so that connections are reused between calls and a call can
/// be given up in time: curl_easy_perform looks at its progress callback only once a second while
/// the server is silent. Certificates are always verified. Proxies as in the environment, but never
/// for loopback addresses. One call at a time per transport. A program that
/// speaks TLS ignores SIGPIPE, as libcurl does not touch signals here. A certificate that is
/// refused is errc::untrusted, a limit on waiting errc::timed_out.
class curl_transport {
 public:
  curl_transport() : curl_transport(curl_options{}) {}
  explicit curl_transport(curl_options options) : options_(std::move(options)) {
    // Thread-safe since libcurl 7.84, and initialisation of a local static is.
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (ready != CURLE_OK) return;
    easy_.reset(curl_easy_init());
    multi_.reset(curl_multi_init());
  }

  [[nodiscard]] result<http_response> post(const http_request& request, body_sink sink) {
    if (!easy_ || !multi_) return error{errc::io_failed, request.url + ": libcurl does not start"};
    if (is_cancelled(request)) {
      return error{errc::cancelled, request.url + ": cancelled by the caller before it was sent"};
    }
    detail::curl_exchange current(request, sink, easy_.get());
    header_list headers;
    for (const auto& h : request.headers) headers.append(h.name + ": " + h.value);
    headers.append("Expect:");  // else a large body waits a second for "100 Continue"

    char detail[CURL_ERROR_SIZE] = "";
    ++current.counted.attempts;
    configure(request, current, headers, detail);
    curl_multi_add_handle(multi_.get(), easy_.get());
    const CURLcode code = drive(current);
    curl_multi_remove_handle(multi_.get(), easy_.get());
    curl_easy_setopt(easy_.get(), CURLOPT_ERRORBUFFER, nullptr);

    current.count_connections();
    if (current.thrown) std::rethrow_exception(current.thrown);
    current.read_status();
    if (code == CURLE_OK || current.enough) return std::move(current.response);
    return failure(current, code, detail);
  }

 private:
  class header_list {
   public:
    header_list() = default;
    header_list(const header_list&) = delete;
    header_list& operator=(const header_list&) = delete;
    ~header_list() { curl_slist_free_all(first_); }
    void append(const std::string& line) {
      if (auto* longer = curl_slist_append(first_, line.c_str())) first_ = longer;
    }
    [[nodiscard]] curl_slist* get() const noexcept { return first_; }

   private:
    curl_slist* first_ = nullptr;
  };

  static std::size_t on_body(char* bytes, std::size_t size, std::size_t count, void* user) {
    auto& current = *static_cast<detail::curl_exchange*>(user);
    try {
      return current.take({bytes, size * count});
    } catch (...) {  // must not unwind through C
      current.thrown = std::current_exception();
      return 0;
    }
  }

  static std::size_t on_header(char* bytes, std::size_t size, std::size_t count, void* user) {
    auto& current = *static_cast<detail::curl_exchange*>(user);
    try {
      current.take_header({bytes, size * count});
    } catch (...) {
      current.thrown = std::current_exception();
      return 0;
    }
    return size * count;
  }

  /// Counts what goes out, where libcurl knows it exactly. Looks at none of it.
  static int on_traffic(CURL*, curl_infotype kind, char*, std::size_t size, void* user) {
    if (kind == CURLINFO_HEADER_OUT || kind == CURLINFO_DATA_OUT) {
      static_cast<detail::curl_exchange*>(user)->counted.bytes_sent += size;
    }
    return 0;
  }

  [[nodiscard]] static long milliseconds_until(clock::time_point when) noexcept {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(when - clock::now()).count();
    return static_cast<long>(std::clamp<decltype(left)>(left, 0, 1'000'000'000));
  }

  void configure(const http_request& request, detail::curl_exchange& current,
                 const header_list& headers, char* detail) {
    CURL* easy = easy_.get();
    curl_easy_reset(easy);
    const auto set = [easy](CURLoption option, auto value) {
      curl_easy_setopt(easy, option, value);
    };
    set(CURLOPT_URL, request.url.c_str());
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDS, request.body.data());
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(CURLOPT_HTTPHEADER, headers.get());
    set(CURLOPT_ERRORBUFFER, detail);
    set(CURLOPT_WRITEFUNCTION, &curl_transport::on_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&current));
    set(CURLOPT_HEADERFUNCTION, &curl_transport::on_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(&current));
    set(CURLOPT_DEBUGFUNCTION, &curl_transport::on_traffic);
    set(CURLOPT_DEBUGDATA, static_cast<void*>(&current));
    set(CURLOPT_VERBOSE, 1L);  // to the function above, which prints nothing
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    if (!options_.ca_file.empty()) set(CURLOPT_CAINFO, options_.ca_file.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_TCP_NODELAY, 1L);
    set(CURLOPT_TIMEOUT_MS, std::max(1L, milliseconds_until(request.deadline)));
    // Of several addresses of a name, one that is silent gets half of it. 0 would mean 300 s.
    if (request.limits.connect.count() > 0) {
      set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.limits.connect.count()));
    }
    set(CURLOPT_NOPROXY, no_proxy().c_str());
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    set(CURLOPT_QUICK_EXIT, 1L);  // a name server that is silent does not hold up the deadline
#endif
  }

  [[nodiscard]] static std::string no_proxy() {
    const char* own = std::getenv("no_proxy");
    if (own == nullptr) own = std::getenv("NO_PROXY");
    if (own == nullptr || *own == '\0') return "localhost,127.0.0.1,::1";
    return std::string(own) == "*" ? "*" : std::string(own) + ",localhost,127.0.0.1,::1";
  }

  /// Until the transfer is over, the deadline or a limit passes, or nobody wants it any more.
  [[nodiscard]] CURLcode drive(detail::curl_exchange& current) {
    // After the last wanted byte the protocol's own end mostly follows at once, and then the
    // connection can be used again; it is not waited for longer than this.
    constexpr auto linger = std::chrono::milliseconds(20);
    constexpr long tick = 10;  // how soon a cancellation is seen, in ms
    const auto& request = current.request;
    for (;;) {
      int running = 0;
      if (curl_multi_perform(multi_.get(), &running) != CURLM_OK) return CURLE_FAILED_INIT;
      int left = 0;
      while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        if (message->data.result == CURLE_OPERATION_TIMEDOUT && !current.connected() &&
            current.patience() < request.deadline) {
          current.limit = {"connection", request.limits.connect};  // libcurl's own timer
        }
        return message->data.result;
      }
      if (is_cancelled(request)) return CURLE_ABORTED_BY_CALLBACK;
      auto until = request.deadline;
      if (current.enough) {
        until = std::min(until, current.enough_since + linger);
        if (clock::now() >= until) return CURLE_OK;
      } else if (const auto limit = current.patience(); limit < until) {
        if (clock::now() >= limit) return CURLE_OPERATION_TIMEDOUT;
        until = limit;
      }
      current.limit = {};
      const long wait = milliseconds_until(until);
      if (wait == 0) return CURLE_OPERATION_TIMEDOUT;
      const long most = request.cancelled != nullptr ? tick : 1'000;
      curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(std::min(wait, most)), nullptr);
    }
  }

  [[nodiscard]] static error failure(const detail::curl_exchange& current, CURLcode code,
                                     const char* detail) {
    const std::string& url = current.request.url;
    const std::string received = std::to_string(current.response.bytes) + " bytes received";
    if (current.too_long) {
      return {errc::network_failed, url + ": the answer is longer than " +
                                        std::to_string(current.request.max_response_bytes) +
                                        " bytes"};
    }
    switch (code) {
      case CURLE_OPERATION_TIMEDOUT:
        return {errc::timed_out,
                url + ": " +
                    (current.limit.waited_for == nullptr ? "no complete answer before the deadline"
                                                         : current.limit.text()) +
                    " (" +
                    (current.response.head.status == 0
                         ? std::string("no response")
                         : "HTTP " + std::to_string(current.response.head.status)) +
                    ", " + received + ")"};
      case CURLE_ABORTED_BY_CALLBACK:
        return {errc::cancelled, url + ": cancelled by the caller (" + received + ")"};
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_ISSUER_ERROR:
      case CURLE_SSL_CACERT_BADFILE:
      case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
        return {errc::untrusted, url + ": the server's certificate is refused: " +
                                     (*detail ? detail : curl_easy_strerror(code))};
      case CURLE_URL_MALFORMAT:
        return {errc::bad_value, url + ": " + (*detail ? detail : curl_easy_strerror(code))};
      case CURLE_PARTIAL_FILE:
      case CURLE_RECV_ERROR:
      case CURLE_GOT_NOTHING:
        return {errc::network_failed, url + ": the connection was cut (" + received +
                                          "): " + (*detail ? detail : curl_easy_strerror(code))};
      default:
        return {errc::network_failed, url + ": " + (*detail ? detail : curl_easy_strerror(code))};
    }
  }

  struct easy_closer {
    void operator()(CURL* handle) const noexcept { curl_easy_cleanup(handle); }
  };
  struct multi_closer {
    void operator()(CURLM* handle) const noexcept { curl_multi_cleanup(handle); }
  };

  curl_options options_;
  std::unique_ptr<CURLM, multi_closer> multi_;
  std::unique_ptr<CURL, easy_closer> easy_;  // goes first: it must not outlive its multi's cache
};
static_assert(transport<curl_transport>);

}  // namespace crayon::serve
