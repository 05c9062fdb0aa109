// SPDX-License-Identifier: MIT
// An OpenAI-compatible HTTP endpoint around any generator.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <httplib.h>

#include <crayon/core/result.hpp>
#include <crayon/core/utf8.hpp>
#include <crayon/serve/admission.hpp>
#include <crayon/serve/deadline_server.hpp>
#include <crayon/serve/generator.hpp>
#include <crayon/serve/openai_answer.hpp>
#include <crayon/serve/openai_request.hpp>
#include <crayon/serve/pool_routes.hpp>
#include <crayon/serve/server_metrics.hpp>
#include <crayon/serve/server_options.hpp>

namespace crayon::serve {

/// GET /health, /metrics, /v1/models, POST /v1/chat/completions, /v1/completions; streaming and
/// not; with `add_pool` also the blend service. Errors come in OpenAI's shape. As many requests are
/// answered at a time as there are generators; the others wait, in the order of coming. A client
/// that goes away stops its answer at the next piece.
template <generator Generator>
class http_server {
 public:
  http_server(server_options options, Generator one)
      : http_server(std::move(options), single(std::move(one))) {}

  http_server(server_options options, std::vector<Generator> generators)
      : options_(std::move(options)),
        models_{options_.model, options_.adapters, options_.blends},
        generators_(std::move(generators)),
        places_(generators_.size(), options_.queue),
        blend_places_(options_.blenders, options_.queue),
        http_(options_.connections, threads_of(options_, generators_.size())) {
    configure();
  }
  http_server(const http_server&) = delete;
  http_server& operator=(const http_server&) = delete;
  ~http_server() { stop(); }

  /// Before `start`: serves a `blend_service` too.
  template <class Service>
  void add_pool(std::shared_ptr<const Service> pool) {
    add_pool_routes(http_, std::move(pool), blend_places_, options_.queue_timeout, metrics_);
  }

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
    http_.widen_backlog();
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

  /// No new requests; running answers get `grace` to finish and to reach their clients. What is
  /// left is then cut off, an answer at its next piece. Returns when all threads are done.
  void stop() {
    if (!listener_.joinable()) return;
    const auto until = clock::now() + options_.grace;
    const auto left = [&] {
      return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(until - clock::now()),
                      std::chrono::milliseconds(0));
    };
    places_.close(left());
    blend_places_.close(left());
    cut_off_ = true;
    http_.close_readers();
    http_.stop();
    while (!ended_ && clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    http_.cut();
    listener_.join();
  }

  [[nodiscard]] const server_metrics& metrics() const noexcept { return metrics_; }

 private:
  using clock = std::chrono::steady_clock;
  using request = httplib::Request;
  using response = httplib::Response;

  [[nodiscard]] static std::vector<Generator> single(Generator one) {
    std::vector<Generator> list;
    list.push_back(std::move(one));
    return list;
  }

  void configure() {
    prepare(http_, options_);
    http_.set_logger([this](const request& in, const response& out) {
      metrics_.count_request(in.path, out.status);
    });
    http_.Get("/health", [this](const request&, response& out) {
      const bool stops = places_.closing();
      if (stops) out.status = 503;
      out.set_content(stops ? R"({"status":"stopping"})" : R"({"status":"ok"})",
                      "application/json");
    });
    http_.Get("/metrics", [this](const request&, response& out) {
      out.set_content(metrics_.text(places_.waiting(), places_.working()),
                      "text/plain; version=0.0.4");
    });
    http_.Get("/v1/models", [this](const request&, response& out) {
      auto list = nlohmann::json::array();
      for (const auto& name : models_.names()) {
        list.push_back(
            {{"id", name}, {"object", "model"}, {"created", created_}, {"owned_by", "crayon"}});
      }
      out.set_content(dump_json({{"object", "list"}, {"data", std::move(list)}}),
                      "application/json");
    });
    http_.Post("/v1/chat/completions",
               [this](const request& in, response& out) { answer(in, out, true); });
    http_.Post("/v1/completions",
               [this](const request& in, response& out) { answer(in, out, false); });
  }

  /// Seconds until a generator is likely to be free for one more.
  [[nodiscard]] int retry_after() const {
    const double rounds =
        static_cast<double>(places_.waiting() + 1) / static_cast<double>(places_.slots());
    return static_cast<int>(std::clamp(std::ceil(metrics_.mean_seconds() * rounds), 1.0, 60.0));
  }

  /// One request on its way through a generator.
  struct running {
    parsed_request parsed;
    admission::ticket place;
    answer_frame frame;
    clock::time_point start;
    token_log log;
    std::size_t offset = 0;  // of the text, in bytes
  };

  void answer(const request& in, response& out, bool chat) {
    const auto start = clock::now();
    auto parsed = parse_request(in.body, chat, models_, options_.limits);
    if (!parsed) {
      const bool unknown = parsed.error().code == errc::not_found;
      return refuse(out, unknown ? 404 : 400, parsed.error().text,
                    unknown ? "model_not_found" : "invalid_value");
    }
    if (parsed->generation.log_probs && !scoring_generator<Generator>) {
      return refuse(out, 400, "'logprobs' is true, expected none: this model does not tell them",
                    "invalid_value");
    }
    refusal why{};
    auto place = places_.enter(options_.queue_timeout, why);
    if (!place) return refuse(out, why, retry_after());
    parsed->generation.options.deadline_ms = static_cast<std::uint32_t>(
        std::min<std::int64_t>(options_.answer_timeout.count(), 1 << 30));
    if constexpr (requires(Generator & g) { g.check(parsed->generation); }) {
      if (const auto fits = generators_[place->slot()].check(parsed->generation); !fits) {
        const bool unknown = fits.error().code == errc::not_found;
        return refuse(out, unknown ? 404 : 400, fits.error().text,
                      unknown ? "model_not_found" : "invalid_value");
      }
    }
    const bool streamed = parsed->stream;
    answer_frame frame{(chat ? "chatcmpl-" : "cmpl-") + std::to_string(created_) + "-" +
                           std::to_string(requests_.fetch_add(1)),
                       parsed->model, now(), chat, parsed->generation.log_probs};
    auto all = std::make_shared<running>(
        running{*std::move(parsed), *std::move(place), std::move(frame), start, {}});
    if (streamed) return stream(std::move(all), out);

    std::string text;
    const auto done = generate(*all, [&](std::string_view piece) {
      text += piece;
      return !cut_off_;
    });
    if (!done) return refuse(out, 500, done.error().text, "generation_failed");
    if (cut_off_) return refuse(out, refusal::closing, 1);
    count(*all, *done);
    out.set_content(all->frame.document(text, *done, all->log), "application/json");
  }

  [[nodiscard]] result<generation> generate(running& r, piece_sink sink) {
    Generator& one = generators_[r.place.slot()];
    if constexpr (scoring_generator<Generator>) return one(r.parsed.generation, sink, r.log);
    return one(r.parsed.generation, sink);
  }

  void count(const running& r, const generation& done) {
    metrics_.count_answer(done.prompt_tokens, done.completion_tokens,
                          std::chrono::duration<double>(clock::now() - r.start).count());
  }

  /// The answer is generated while it is written, after the headers have gone out: what goes wrong
  /// from here on is an error event, and no [DONE].
  void stream(std::shared_ptr<running> all, response& out) {
    out.set_chunked_content_provider(
        "text/event-stream", [this, all = std::move(all)](std::size_t, httplib::DataSink& sink) {
          const answer_frame& frame = all->frame;
          const auto write = [&](const std::string& event) {
            return !cut_off_ && sink.write(event.data(), event.size());
          };
          const auto write_piece = [&](std::string_view text) {
            const bool sent = write(frame.piece_event(text, all->log, all->offset));
            all->log.clear();
            return sent;
          };
          utf8_joiner joiner;
          if (frame.chat && !write(frame.role_event())) return false;
          const auto done = generate(*all, [&](std::string_view piece) {
            const std::string_view text = joiner.add(piece);
            return text.empty() ? !cut_off_.load() : write_piece(text);
          });
          if (!done) {
            write("data: " + error_body(done.error().text, "server_error", "generation_failed") +
                  "\n\n");
            sink.done();
            return true;
          }
          if (!joiner.rest().empty()) write_piece(joiner.rest());
          count(*all, *done);
          const bool sent = write(frame.last_event(*done, all->log, all->offset)) &&
                            (!all->parsed.stream_usage || write(frame.usage_event(*done))) &&
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
  served_models models_;
  std::vector<Generator> generators_;
  admission places_, blend_places_;
  server_metrics metrics_;
  std::atomic<bool> cut_off_{false};
  std::atomic<std::uint64_t> requests_{0};
  std::int64_t created_ = now();
  deadline_server http_;
  std::atomic<bool> ended_{false};  // the listener has returned
  std::thread listener_;
};

}  // namespace crayon::serve
