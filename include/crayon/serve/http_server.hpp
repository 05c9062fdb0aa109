// SPDX-License-Identifier: MIT
// An OpenAI-compatible HTTP endpoint around any generator.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <httplib.h>
#include <sys/socket.h>

#include <crayon/core/result.hpp>
#include <crayon/core/utf8.hpp>
#include <crayon/serve/generator.hpp>
#include <crayon/serve/openai_request.hpp>

namespace crayon::serve {

struct server_options {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;  ///< 0: any free one; start() says which
  std::string model = "crayon";
  request_limits limits = {};
  std::size_t max_body_bytes = std::size_t{1} << 20;
  std::size_t threads = 16;  ///< connections served at once, waiting ones included
  std::chrono::milliseconds queue_timeout{30'000};  ///< for a free generator; then HTTP 503
  std::chrono::milliseconds grace{5'000};           ///< how long stop() lets running answers go on
};

/// GET /health, GET /v1/models, POST /v1/chat/completions, POST /v1/completions; streaming and not.
/// Errors come in OpenAI's shape. As many requests are answered at a time as there are generators;
/// the others wait. A client that goes away stops its answer at the next piece.
template <generator Generator>
class http_server {
 public:
  http_server(server_options options, Generator one)
      : http_server(std::move(options), single(std::move(one))) {}

  http_server(server_options options, std::vector<Generator> generators)
      : options_(std::move(options)), generators_(std::move(generators)) {
    CRAYON_ASSERT(!generators_.empty());
    for (auto& g : generators_) free_.push_back(&g);
    configure();
  }
  http_server(const http_server&) = delete;
  http_server& operator=(const http_server&) = delete;
  ~http_server() { stop(); }

  /// Binds and serves on threads of its own; the port. Once per server.
  [[nodiscard]] result<std::uint16_t> start() {
    const int port = options_.port == 0
                         ? http_.bind_to_any_port(options_.host)
                         : (http_.bind_to_port(options_.host, options_.port) ? options_.port : -1);
    if (port <= 0) {
      return error{errc::io_failed,
                   "cannot listen on " + options_.host + ":" + std::to_string(options_.port) +
                       ": the port is in use or the address is not of this machine"};
    }
    listener_ = std::thread([this] {
      http_.listen_after_bind();
      ended_ = true;
    });
    while (!http_.is_running() && !ended_) std::this_thread::yield();
    if (ended_) {
      listener_.join();
      return error{errc::io_failed,
                   "cannot accept connections on " + options_.host + ":" + std::to_string(port)};
    }
    return static_cast<std::uint16_t>(port);
  }

  /// No new requests; running answers get `grace` to finish and are then cut off at their next
  /// piece. Returns when all threads are done.
  void stop() {
    if (!listener_.joinable()) return;
    {
      std::unique_lock lock(mutex_);
      draining_ = true;
      changed_.notify_all();
      changed_.wait_for(lock, options_.grace, [&] { return free_.size() == generators_.size(); });
    }
    cut_off_ = true;
    http_.stop();
    listener_.join();
  }

 private:
  using request = httplib::Request;
  using response = httplib::Response;

  /// A generator out of the free ones, for the time of one answer.
  class lease {
   public:
    lease(http_server& server, Generator* one) : server_(&server), generator_(one) {}
    lease(lease&& other) noexcept
        : server_(other.server_), generator_(std::exchange(other.generator_, nullptr)) {}
    lease& operator=(lease&&) = delete;
    ~lease() {
      if (generator_ != nullptr) server_->give_back(generator_);
    }
    [[nodiscard]] Generator& operator*() const noexcept { return *generator_; }

   private:
    http_server* server_;
    Generator* generator_;
  };

  [[nodiscard]] static std::vector<Generator> single(Generator one) {
    std::vector<Generator> list;
    list.push_back(std::move(one));
    return list;
  }

  [[nodiscard]] std::optional<lease> borrow() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, options_.queue_timeout, [&] { return draining_ || !free_.empty(); });
    if (draining_ || free_.empty()) return std::nullopt;
    Generator* one = free_.back();
    free_.pop_back();
    return lease(*this, one);
  }

  void give_back(Generator* one) {
    const std::lock_guard lock(mutex_);
    free_.push_back(one);
    changed_.notify_all();
  }

  void configure() {
    http_.new_task_queue = [threads = options_.threads] {
      return new httplib::ThreadPool(threads);
    };
    http_.set_payload_max_length(options_.max_body_bytes);
    http_.set_tcp_nodelay(true);
    http_.set_keep_alive_max_count(1000);
    http_.set_keep_alive_timeout(1);  // s; an idle connection holds a thread, and stop(), this long
    // The library's default is SO_REUSEPORT, with which two servers share a port and do not know.
    http_.set_socket_options([](auto socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    http_.Get("/health", [](const request&, response& out) {
      out.set_content(R"({"status":"ok"})", "application/json");
    });
    http_.Get("/v1/models", [this](const request&, response& out) {
      const nlohmann::json one{{"id", options_.model},
                               {"object", "model"},
                               {"created", created_},
                               {"owned_by", "crayon"}};
      out.set_content(nlohmann::json{{"object", "list"}, {"data", {one}}}.dump(),
                      "application/json");
    });
    http_.Post("/v1/chat/completions",
               [this](const request& in, response& out) { answer(in, out, true); });
    http_.Post("/v1/completions",
               [this](const request& in, response& out) { answer(in, out, false); });
    http_.set_error_handler([](const request& in, response& out) {
      if (!out.body.empty()) return;
      refuse(out, out.status,
             out.status == 404   ? in.method + " " + in.path + " does not exist"
             : out.status == 413 ? std::string("the body is too large")
                                 : "HTTP " + std::to_string(out.status),
             "http_error");
    });
    http_.set_exception_handler([](const request&, response& out, std::exception_ptr) {
      refuse(out, 500, "the server failed while answering", "internal_error");
    });
  }

  static void refuse(response& out, int status, std::string_view message, std::string_view code) {
    out.status = status;
    out.set_content(
        error_body(message, status < 500 ? "invalid_request_error" : "server_error", code),
        "application/json");
  }

  void answer(const request& in, response& out, bool chat) {
    auto parsed = parse_request(in.body, chat, options_.model, options_.limits);
    if (!parsed) {
      const bool unknown = parsed.error().code == errc::not_found;
      return refuse(out, unknown ? 404 : 400, parsed.error().text,
                    unknown ? "model_not_found" : "invalid_value");
    }
    auto leased = borrow();
    if (!leased) return refuse(out, 503, "all models are busy or the server stops", "overloaded");
    if constexpr (requires(Generator & g) { g.check(parsed->generation); }) {
      if (const result<void> fits = (**leased).check(parsed->generation); !fits) {
        return refuse(out, 400, fits.error().text, "invalid_value");
      }
    }
    const answer_frame frame{(chat ? "chatcmpl-" : "cmpl-") + std::to_string(created_) + "-" +
                                 std::to_string(requests_.fetch_add(1)),
                             options_.model, now(), chat};
    if (parsed->stream) return stream(std::move(*parsed), std::move(*leased), frame, out);

    std::string text;
    const auto done = (**leased)(parsed->generation, [&](std::string_view piece) {
      text += piece;
      return !cut_off_;
    });
    if (!done) return refuse(out, 500, done.error().text, "generation_failed");
    if (cut_off_) return refuse(out, 503, "the server stopped while answering", "overloaded");
    out.set_content(frame.document(text, *done), "application/json");
  }

  /// The answer is generated while it is written, after the headers have gone out: what goes wrong
  /// from here on is an error event, and no [DONE].
  void stream(parsed_request parsed, lease leased, answer_frame frame, response& out) {
    struct running {
      parsed_request parsed;
      lease leased;
      answer_frame frame;
    };
    const auto all =
        std::make_shared<running>(running{std::move(parsed), std::move(leased), std::move(frame)});
    out.set_chunked_content_provider(
        "text/event-stream", [this, all](std::size_t, httplib::DataSink& sink) {
          const auto write = [&](const std::string& event) {
            return !cut_off_ && sink.write(event.data(), event.size());
          };
          utf8_joiner joiner;
          if (all->parsed.chat && !write(all->frame.event("", true))) return false;
          const auto done = (*all->leased)(all->parsed.generation, [&](std::string_view piece) {
            const std::string_view text = joiner.add(piece);
            return text.empty() ? !cut_off_.load() : write(all->frame.event(text, false));
          });
          if (!done) {
            write("data: " + error_body(done.error().text, "server_error", "generation_failed") +
                  "\n\n");
            sink.done();
            return true;
          }
          if (!joiner.rest().empty()) write(all->frame.event(joiner.rest(), false));
          const bool sent = write(all->frame.event("", false, &*done)) &&
                            (!all->parsed.stream_usage || write(all->frame.usage_event(*done))) &&
                            write("data: [DONE]\n\n");
          sink.done();
          return sent;
        });
  }

  [[nodiscard]] static std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }

  server_options options_;
  std::vector<Generator> generators_;
  std::vector<Generator*> free_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool draining_ = false;
  std::atomic<bool> cut_off_{false};
  std::atomic<std::uint64_t> requests_{0};
  std::int64_t created_ = now();
  httplib::Server http_;
  std::atomic<bool> ended_{false};  // the listener has returned
  std::thread listener_;
};

}  // namespace crayon::serve
