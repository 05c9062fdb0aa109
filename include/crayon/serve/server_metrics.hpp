// SPDX-License-Identifier: MIT
// What a server counts, as Prometheus reads it (text format 0.0.4).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace crayon::serve {

/// Any number of threads may count.
class server_metrics {
 public:
  /// One response. Paths that the server does not have count as "other", so that a client cannot
  /// make series without end.
  void count_request(std::string_view path, int status) {
    const auto known = std::find(paths.begin(), paths.end(), path);
    const std::lock_guard lock(mutex_);
    ++requests_[{known == paths.end() ? std::string_view("other") : *known, status}];
  }

  /// One answer of a model: its tokens, and the time from the request to the last byte.
  void count_answer(std::size_t prompt_tokens, std::size_t completion_tokens, double seconds) {
    const std::lock_guard lock(mutex_);
    prompt_tokens_ += prompt_tokens;
    completion_tokens_ += completion_tokens;
    ++answers_;
    seconds_ += seconds;
    const auto bucket = std::lower_bound(bounds.begin(), bounds.end(), seconds);
    ++buckets_[static_cast<std::size_t>(bucket - bounds.begin())];
  }

  /// One adapter made for a device.
  void count_blend() {
    const std::lock_guard lock(mutex_);
    ++blends_;
  }

  /// Of the answers so far; 0 before the first.
  [[nodiscard]] double mean_seconds() const {
    const std::lock_guard lock(mutex_);
    return answers_ == 0 ? 0 : seconds_ / static_cast<double>(answers_);
  }

  /// The body of GET /metrics; the two numbers are those of now.
  [[nodiscard]] std::string text(std::size_t waiting, std::size_t working) const {
    const std::lock_guard lock(mutex_);
    std::string out;
    const auto head = [&](std::string_view name, std::string_view type, std::string_view help) {
      out.append("# HELP ").append(name).append(" ").append(help).append("\n# TYPE ");
      out.append(name).append(" ").append(type).append("\n");
    };
    const auto line = [&](std::string_view series, std::string_view value) {
      out.append(series).append(" ").append(value).append("\n");
    };
    head("crayon_http_requests_total", "counter", "Responses by path and status.");
    for (const auto& [key, count] : requests_) {
      line("crayon_http_requests_total{path=\"" + std::string(key.first) + "\",status=\"" +
               std::to_string(key.second) + "\"}",
           std::to_string(count));
    }
    head("crayon_tokens_total", "counter", "Tokens of prompts (in) and of answers (out).");
    line("crayon_tokens_total{direction=\"in\"}", std::to_string(prompt_tokens_));
    line("crayon_tokens_total{direction=\"out\"}", std::to_string(completion_tokens_));
    head("crayon_answer_seconds", "histogram", "From a request to the last byte of its answer.");
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      sum += buckets_[i];
      const std::string bound = i < bounds.size() ? number(bounds[i]) : "+Inf";
      line("crayon_answer_seconds_bucket{le=\"" + bound + "\"}", std::to_string(sum));
    }
    line("crayon_answer_seconds_sum", number(seconds_));
    line("crayon_answer_seconds_count", std::to_string(answers_));
    head("crayon_queue_depth", "gauge", "Requests that wait for a model.");
    line("crayon_queue_depth", std::to_string(waiting));
    head("crayon_answers_running", "gauge", "Requests that a model answers.");
    line("crayon_answers_running", std::to_string(working));
    head("crayon_blends_total", "counter", "Adapters blended for devices.");
    line("crayon_blends_total", std::to_string(blends_));
    return out;
  }

 private:
  static constexpr std::array<std::string_view, 7> paths{
      "/health",        "/metrics",  "/v1/models", "/v1/chat/completions",
      "/v1/completions", "/v1/pool/index", "/v1/blend"};
  static constexpr std::array<double, 13> bounds{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                 1,     2.5,  5,     10,   30,  60};

  [[nodiscard]] static std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", value);
    return text;
  }

  mutable std::mutex mutex_;
  std::map<std::pair<std::string_view, int>, std::uint64_t> requests_;
  std::array<std::uint64_t, bounds.size() + 1> buckets_{};
  std::uint64_t prompt_tokens_ = 0, completion_tokens_ = 0, answers_ = 0, blends_ = 0;
  double seconds_ = 0;
};

}  // namespace crayon::serve
