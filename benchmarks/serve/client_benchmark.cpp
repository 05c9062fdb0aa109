// SPDX-License-Identifier: MIT
// What the client and the wrappers around its transport cost per call: a transport without a
// network answers at once with a stream of 16 tokens. `exchange` is that transport alone.
#include <crayon/serve/openai_client.hpp>

#include <crayon/serve/hedged.hpp>

#include <benchmark/benchmark.h>

#include <string>
#include <string_view>
#include <utility>

using namespace crayon;

namespace {

const std::string& stream() {
  static const std::string text = [] {
    std::string all;
    for (int i = 0; i < 16; ++i) {
      all += "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"}}]}\n\n";
    }
    return all + "data: [DONE]\n\n";
  }();
  return text;
}

struct loopback {
  [[nodiscard]] result<serve::http_response> post(const serve::http_request& request,
                                                  serve::body_sink sink) {
    if (request.counted != nullptr) ++request.counted->attempts;
    serve::http_response response;
    response.head = {200, "text/event-stream", {}, {}};
    response.bytes = stream().size();
    (void)sink(response.head, stream());
    return response;
  }
};
static_assert(serve::transport<loopback>);

void exchange(benchmark::State& state) {
  loopback transport;
  serve::http_request request;
  std::size_t bytes = 0;
  for (auto _ : state) {
    const auto response = transport.post(request, [&](const auto&, std::string_view text) {
      bytes += text.size();
      return true;
    });
    benchmark::DoNotOptimize(response);
  }
  benchmark::DoNotOptimize(bytes);
}
BENCHMARK(exchange);

template <class Remote>
void call(benchmark::State& state, Remote client) {
  std::size_t bytes = 0;
  for (auto _ : state) {
    const auto answer =
        client.complete("What is nine plus seven?", {}, [&](std::string_view piece) {
          bytes += piece.size();
          return true;
        });
    if (!answer.outcome) return state.SkipWithError(answer.outcome.error().text.c_str());
  }
  benchmark::DoNotOptimize(bytes);
}

template <class Transport>
auto client() {
  return serve::basic_openai_client<Transport>(serve::client_options{});
}

using breaker = serve::circuit_breaker<loopback>;
using patient = serve::retrying<breaker>;

BENCHMARK_CAPTURE(call, client, client<loopback>());
BENCHMARK_CAPTURE(call, breaker, client<breaker>());
BENCHMARK_CAPTURE(call, retrying, client<serve::retrying<loopback>>());
BENCHMARK_CAPTURE(call, retrying_breaker, client<patient>());
BENCHMARK_CAPTURE(call, hedged_retrying_breaker,
                  serve::hedged(client<patient>(), client<patient>()))
    ->UseRealTime();

}  // namespace
