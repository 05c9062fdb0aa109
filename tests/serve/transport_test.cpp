// SPDX-License-Identifier: MIT
#include <crayon/serve/transport.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include <crayon/serve/openai_client.hpp>

#include "../catch.hpp"

namespace {

/// Answers without a network, in parts of a given size.
struct recorded_transport {
  std::string body;
  std::size_t part = 1;
  std::vector<crayon::serve::http_request>* requests;

  crayon::result<crayon::serve::http_response> post(const crayon::serve::http_request& request,
                                                    crayon::serve::body_sink sink) {
    requests->push_back(request);
    crayon::serve::http_response response;
    response.head = {200, "text/event-stream"};
    for (std::size_t i = 0; i < body.size(); i += part) {
      const std::string_view bytes = std::string_view(body).substr(i, part);
      response.bytes += bytes.size();
      if (!sink(response.head, bytes)) break;
    }
    return response;
  }
};
static_assert(crayon::serve::transport<recorded_transport>);

}  // namespace

TEST_CASE("a request of the client as any transport gets it", "[serve]") {
  using namespace std::chrono_literals;
  const std::string stream =
      "data: {\"choices\":[{\"delta\":{\"content\":\"vier \u00fc\"}}]}\r\n\r\n"
      "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
      "data: [DONE]\n\n";
  for (const std::size_t part : {std::size_t{1}, std::size_t{7}, stream.size()}) {
    std::vector<crayon::serve::http_request> requests;
    crayon::serve::client_options options;
    options.base_url = "https://example.test/v1";
    options.api_key = "key";
    options.deadline = 3s;
    options.max_response_bytes = 1234;
    crayon::serve::basic_openai_client client(options, recorded_transport{stream, part, &requests});
    std::string pieces;
    const auto before = crayon::serve::clock::now();
    const auto answer = client.complete("2+2", {}, [&](std::string_view piece) {
      pieces += piece;
      return true;
    });
    REQUIRE(answer.outcome);
    CHECK(answer.text == "vier \u00fc");
    CHECK(pieces == answer.text);

    REQUIRE(requests.size() == 1);
    const auto& sent = requests[0];
    CHECK(sent.url == "https://example.test/v1/chat/completions");
    CHECK(sent.deadline >= before + 3s);
    CHECK(sent.deadline <= crayon::serve::clock::now() + 3s);
    CHECK(sent.max_response_bytes == 1234);
    CHECK(sent.cancelled == nullptr);
    CHECK(sent.body.find("\"content\":\"2+2\"") != std::string::npos);
    const auto has = [&](std::string_view name, std::string_view value) {
      return std::any_of(sent.headers.begin(), sent.headers.end(),
                         [&](const auto& h) { return h.name == name && h.value == value; });
    };
    CHECK(has("Content-Type", "application/json"));
    CHECK(has("Accept", "text/event-stream"));
    CHECK(has("Authorization", "Bearer key"));
  }
}
