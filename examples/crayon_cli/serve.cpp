// SPDX-License-Identifier: MIT
#include <csignal>
#include <cstdint>
#include <cstdio>

#include <crayon/serve/http_server.hpp>

#include "commands.hpp"
#include "models.hpp"

namespace crayon::cli {
namespace {

/// One session that answers one request at a time.
class answerer {
 public:
  explicit answerer(device engine) : device_(std::move(engine)) {}

  /// Runs the prompt, so that the answer needs only the rest.
  [[nodiscard]] result<void> check(const serve::generation_request& request) {
    if (const auto begun = device_.begin(request.prompt); !begun) return begun.error();
    return {};
  }

  result<serve::generation> operator()(const serve::generation_request& request, piece_sink sink) {
    CRAYON_TRY(const auto done, device_.finish(request.options, sink));
    return serve::generation{done.prompt_tokens, done.tokens,
                             done.finished == engine::finish_reason::length};
  }

 private:
  device device_;
};

}  // namespace

result<void> run(const serve_options& o, json& report) {
  // Blocked before any thread starts, so that sigwait below is the one that sees them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  CRAYON_TRY(device first, open_device(o.model, o.adapters, o.context));
  std::vector<answerer> answerers;
  for (std::size_t i = 1; i < o.sessions; ++i) {
    answerers.emplace_back(first.fork(std::make_shared<thread_pool>(1)));
  }
  if (o.sessions > 1) first = first.fork(std::make_shared<thread_pool>(1));
  answerers.emplace_back(std::move(first));
  serve::server_options server_options;
  server_options.host = o.host;
  server_options.port = o.port;
  server_options.model = o.name;
  serve::http_server<answerer> server(server_options, std::move(answerers));
  CRAYON_TRY(const std::uint16_t port, server.start());
  std::printf("http://%s:%u/v1\n", o.host.c_str(), unsigned{port});
  std::fflush(stdout);
  int received = 0;
  sigwait(&signals, &received);
  server.stop();
  report["host"] = o.host;
  report["port"] = port;
  report["stopped_by"] = received == SIGINT ? "SIGINT" : "SIGTERM";
  return {};
}

}  // namespace crayon::cli
