// SPDX-License-Identifier: MIT
// Concurrent streams against `crayon serve`: is any answer lost, cut or another's, and how long do
// they take. crayon_serve_load URL [streams] [seconds] [tokens] [model]...
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/io/json.hpp>
#include <crayon/serve/curl_transport.hpp>
#include <crayon/serve/sse.hpp>

using namespace crayon;

namespace {

using clock_type = std::chrono::steady_clock;

double seconds_since(clock_type::time_point start) {
  return std::chrono::duration<double>(clock_type::now() - start).count();
}

struct streamed {
  std::string text;
  std::string wrong;  // empty: the whole answer came
  bool turned_away = false;
  double first = 0, all = 0;  // s
  std::size_t pieces = 0;
};

/// One streamed completion, greedy: the same prompt and model give the same text.
streamed ask(serve::curl_transport& transport, const std::string& url, const std::string& model,
             const std::string& prompt, std::size_t tokens) {
  serve::http_request request;
  request.url = url + "/completions";
  request.headers = {{"Content-Type", "application/json"}};
  nlohmann::json body{{"prompt", prompt},
                      {"max_tokens", tokens},
                      {"temperature", 0},
                      {"stream", true}};
  if (!model.empty()) body["model"] = model;
  request.body = body.dump();
  request.deadline = serve::clock::now() + std::chrono::seconds(120);
  streamed out;
  serve::sse_parser events;
  bool done = false;
  std::string refused;
  const auto start = clock_type::now();
  const auto response =
      transport.post(request, [&](const serve::response_head& head, std::string_view bytes) {
        if (head.status != 200) {
          refused += bytes;
          return true;
        }
        return events.feed(bytes, [&](const serve::sse_event& event) {
          if (event.data == "[DONE]") {
            done = true;
            return true;
          }
          const auto json = io::parse_json(event.data);
          if (!json.is_object() || !json.contains("choices")) {
            out.wrong = "an event " + std::string(event.data);
            return false;
          }
          if (out.pieces++ == 0) out.first = seconds_since(start);
          out.text += json["choices"][0].value("text", "");
          return true;
        });
      });
  out.all = seconds_since(start);
  if (!response) {
    out.wrong = response.error().text;
  } else if (response->head.status != 200) {
    out.turned_away = response->head.status == 429;
    out.wrong = "HTTP " + std::to_string(response->head.status) + " " + refused;
  } else if (!done && out.wrong.empty()) {
    out.wrong = "no [DONE]";
  }
  return out;
}

double quantile(std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

std::string prompt_of(std::size_t stream) {
  const char* const names[] = {"one", "two", "three", "four", "five", "six", "seven", "eight"};
  return std::string("What is ") + names[stream % 8] + " plus " + names[stream / 8 % 8] + "?";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s URL [streams] [seconds] [tokens] [model]...\n", argv[0]);
    return 2;
  }
  std::string url = argv[1];
  while (url.ends_with('/')) url.pop_back();
  const auto number = [&](int i, long fallback) {
    return static_cast<std::size_t>(argc > i ? std::atol(argv[i]) : fallback);
  };
  const std::size_t streams = number(2, 32), tokens = number(4, 24);
  const auto length = static_cast<double>(number(3, 60));
  std::vector<std::string> models(argv + std::min(argc, 5), argv + argc);
  if (models.empty()) models.emplace_back();

  // What each stream must get, asked for one after the other.
  std::vector<std::string> expected;
  serve::curl_transport alone;
  for (std::size_t i = 0; i < streams; ++i) {
    const auto first = ask(alone, url, models[i % models.size()], prompt_of(i), tokens);
    if (!first.wrong.empty()) {
      std::fprintf(stderr, "%s\n", first.wrong.c_str());
      return 1;
    }
    expected.push_back(first.text);
  }

  std::mutex mutex;
  std::vector<double> firsts, alls;
  std::size_t pieces = 0, lost = 0, mixed = 0, turned_away = 0;
  std::string example;
  const auto start = clock_type::now();
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < streams; ++i) {
    threads.emplace_back([&, i] {
      serve::curl_transport transport;
      while (seconds_since(start) < length) {
        const auto one = ask(transport, url, models[i % models.size()], prompt_of(i), tokens);
        const std::lock_guard lock(mutex);
        if (one.turned_away) {
          ++turned_away;
        } else if (!one.wrong.empty()) {
          ++lost;
          example = one.wrong;
        } else {
          mixed += one.text != expected[i];
          firsts.push_back(one.first);
          alls.push_back(one.all);
          pieces += one.pieces;
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  const double took = seconds_since(start);
  std::printf("%zu streams, %.1f s: %zu answers (%.1f/s), %zu events (%.0f/s)\n", streams, took,
              alls.size(), static_cast<double>(alls.size()) / took, pieces,
              static_cast<double>(pieces) / took);
  std::printf("lost %zu, with another text than alone %zu, turned away (429) %zu\n", lost, mixed,
              turned_away);
  if (!example.empty()) std::printf("the last lost one: %s\n", example.c_str());
  std::printf("first piece: p50 %.0f ms, p99 %.0f ms, largest %.0f ms\n",
              1e3 * quantile(firsts, 0.5), 1e3 * quantile(firsts, 0.99), 1e3 * quantile(firsts, 1));
  std::printf("whole answer: p50 %.0f ms, p99 %.0f ms, largest %.0f ms\n",
              1e3 * quantile(alls, 0.5), 1e3 * quantile(alls, 0.99), 1e3 * quantile(alls, 1));
  return lost + mixed == 0 ? 0 : 1;
}
