// SPDX-License-Identifier: MIT
#include <crayon/serve/server_metrics.hpp>

#include <string>

#include "../catch.hpp"

TEST_CASE("metrics as Prometheus reads them", "[serve]") {
  crayon::serve::server_metrics metrics;
  CHECK(metrics.mean_seconds() == 0);
  metrics.count_request("/v1/completions", 200);
  metrics.count_request("/v1/completions", 200);
  metrics.count_request("/v1/completions", 429);
  metrics.count_request("/nowhere\"}", 404);
  metrics.count_request("/else", 404);
  metrics.count_answer(5, 7, 0.25);
  metrics.count_answer(1, 2, 0.26);
  metrics.count_answer(0, 0, 100);
  metrics.count_blend();
  const std::string text = metrics.text(3, 2);
  CAPTURE(text);
  for (const char* line :
       {"crayon_http_requests_total{path=\"/v1/completions\",status=\"200\"} 2\n",
        "crayon_http_requests_total{path=\"/v1/completions\",status=\"429\"} 1\n",
        "crayon_http_requests_total{path=\"other\",status=\"404\"} 2\n",
        "crayon_tokens_total{direction=\"in\"} 6\n", "crayon_tokens_total{direction=\"out\"} 9\n",
        "# TYPE crayon_answer_seconds histogram\n",
        "crayon_answer_seconds_bucket{le=\"0.1\"} 0\n",
        "crayon_answer_seconds_bucket{le=\"0.25\"} 1\n",
        "crayon_answer_seconds_bucket{le=\"0.5\"} 2\n",
        "crayon_answer_seconds_bucket{le=\"60\"} 2\n",
        "crayon_answer_seconds_bucket{le=\"+Inf\"} 3\n", "crayon_answer_seconds_sum 100.51\n",
        "crayon_answer_seconds_count 3\n", "crayon_queue_depth 3\n", "crayon_answers_running 2\n",
        "crayon_blends_total 1\n"}) {
    CHECK(text.find(line) != std::string::npos);
  }
  CHECK(text.find("nowhere") == std::string::npos);
  CHECK(metrics.mean_seconds() == Approx(100.51 / 3));
}
