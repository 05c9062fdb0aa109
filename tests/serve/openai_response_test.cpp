// SPDX-License-Identifier: MIT
#include <crayon/serve/openai_response.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../catch.hpp"

namespace {

namespace response {

using crayon::serve::completion;
using crayon::serve::response_head;

struct outcome {
  crayon::result<void> finished;
  completion answer;
  std::vector<std::string> pieces;
  std::size_t taken = 0;  ///< bytes until it wanted no more
};

/// Reads `body` in parts of `part` bytes; the sink wants `enough` pieces.
outcome read(const response_head& head, std::string_view body, std::size_t part = 1,
             std::size_t enough = 99) {
  const std::string url = "http://host/v1/chat/completions";
  const std::string secret = "sk-12345";
  outcome out{{}, {}, {}, 0};
  const auto keep = [&](std::string_view piece) {
    out.pieces.emplace_back(piece);
    return out.pieces.size() < enough;
  };
  crayon::serve::detail::response_reader reader(url, secret, keep, out.answer);
  bool more = true;
  for (; more && out.taken < body.size(); out.taken += part) {
    more = reader.take(head, body.substr(out.taken, part));
  }
  out.finished = reader.finish(head);
  return out;
}

const response_head events{200, "text/event-stream; charset=utf-8"}, json{200, "application/json"};

}  // namespace response

}  // namespace

TEST_CASE("a stream gives the same answer wherever the network cuts it", "[serve]") {
  const std::string stream =
      ": a comment\n\n"
      "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
      "data: {\"choices\":[{\"delta\":{\"content\":\"gr\u00fc\"}}]}\r\n\r\n"
      "event: message\ndata: {\"choices\":[{\"delta\":{\"content\":\"n\"},"
      "\"finish_reason\":\"length\"}]}\n\n"
      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n"
      "data: [DONE]\n\n";
  for (std::size_t part = 1; part <= stream.size(); ++part) {
    const auto out = response::read(response::events, stream, part);
    CAPTURE(part);
    REQUIRE(out.finished);
    CHECK(out.answer.text == "gr\u00fcn");
    CHECK(out.pieces == std::vector<std::string>{"gr\u00fc", "n"});
    CHECK(out.answer.finish_reason == "length");
    CHECK(out.answer.prompt_tokens == 3);
    CHECK(out.answer.completion_tokens == 2);
  }
  const auto two = response::read(response::events, stream, 1, 1);
  CHECK(two.finished);  // the sink had enough
  CHECK(two.answer.finish_reason == "cancelled");
  CHECK(two.taken < stream.size());

  const auto cut = response::read(response::events, stream.substr(0, stream.size() - 9));
  REQUIRE_FALSE(cut.finished);
  CHECK(cut.finished.error().text ==
        "http://host/v1/chat/completions: the stream ended after 4 events without [DONE]: the "
        "answer is truncated");
  CHECK(cut.answer.text == "gr\u00fcn");
}

TEST_CASE("one document of a chat and of a completion", "[serve]") {
  const auto chat = response::read(
      response::json, R"({"choices":[{"message":{"content":"4"},"finish_reason":"stop"}]})", 5);
  REQUIRE(chat.finished);
  CHECK(chat.answer.text == "4");
  CHECK(chat.answer.finish_reason == "stop");
  CHECK(chat.answer.prompt_tokens == 0);
  const auto text = response::read(
      response::json,
      R"({"choices":[{"text":"four"}],"usage":{"prompt_tokens":-1,"completion_tokens":"2"}})");
  REQUIRE(text.finished);
  CHECK(text.answer.text == "four");
  CHECK(text.answer.prompt_tokens == 0);  // not a count
  CHECK(text.answer.completion_tokens == 0);
  const auto silent =
      response::read(response::json, R"({"choices":[{"message":{"content":null}}]})");
  CHECK(silent.finished);
  CHECK(silent.answer.text.empty());
}

TEST_CASE("what is not an answer is quoted in one line", "[serve]") {
  struct row {
    crayon::serve::response_head head;
    std::string body;
    std::string says;
  };
  const std::string long_text(100, 'x');
  const std::vector<row> table{
      {{200, "text/html"},
       "<html>\r\n\t<body>Welcome",
       "HTTP 200 with text/html \"<html>   <body>Welcome\" where JSON was expected"},
      {{200, ""}, "hello", "HTTP 200 with no content type \"hello\" where JSON was expected"},
      {{200, "application/json"},
       long_text,
       "HTTP 200 with malformed JSON: \"" + long_text.substr(0, 60) + "...\""},
      {{200, "application/json"}, "[1]", "JSON without choices: \"[1]\""},
      {{200, "application/json"},
       R"({"choices":[]})",
       "JSON without choices: \"{\"choices\":[]}\""},
      {{200, "application/json"},
       R"({"choices":["4"]})",
       "JSON without choices: \"{\"choices\":[\"4\"]}\""},
      {{200, "application/json"}, R"({"error":"no"})", "the server reports an error: \"no\""},
      {{503, "application/json"},
       R"({"error":{"message":"busy\nnow"}})",
       "HTTP 503, \"busy now\" instead of an answer"},
      {{404, "text/html"}, "gone", "HTTP 404, text/html \"gone\" instead of an answer"},
      {{500, "application/json"}, "", "HTTP 500, application/json \"\" instead of an answer"},
      // Cut between characters: 59 letters, and one of two bytes.
      {{200, "text/plain"},
       std::string(59, 'x') + "\u00fc and more",
       "HTTP 200 with text/plain \"" + std::string(59, 'x') + "...\" where JSON was expected"}};
  for (const auto& r : table) {
    const auto out = response::read(r.head, r.body, 3);
    CAPTURE(r.body);
    REQUIRE_FALSE(out.finished);
    CHECK(out.finished.error().text == "http://host/v1/chat/completions: " + r.says);
    CHECK(out.finished.error().code == crayon::errc::network_failed);
    CHECK(out.pieces.empty());
  }
}

TEST_CASE("an error page is read only as far as its message may reach", "[serve]") {
  const std::string page(200'000, 'x');
  CHECK(response::read({500, "text/html"}, page, 1000).taken <= 66'000);
  CHECK(response::read({200, "text/html"}, page, 1000).taken == page.size());
}

TEST_CASE("log-probabilities of a chat and of a completion, whatever else is there", "[serve]") {
  const auto chat = response::read(
      response::events,
      "data: {\"choices\":[{\"delta\":{\"content\":\"yes\"},\"logprobs\":{\"content\":["
      "{\"token\":\"y\",\"logprob\":-0.25,\"top_logprobs\":[{\"token\":\"y\",\"logprob\":-0.25},"
      "{\"token\":\"n\",\"logprob\":-2}]},{\"token\":\"es\",\"logprob\":null}]}}]}\n\n"
      "data: {\"choices\":[{\"delta\":{\"content\":\"!\"},\"logprobs\":null}]}\n\n"
      "data: {\"choices\":[{\"delta\":{\"content\":\"?\"},\"logprobs\":{\"content\":7}}]}\n\n"
      "data: [DONE]\n\n");
  REQUIRE(chat.finished);
  CHECK(chat.answer.text == "yes!?");
  REQUIRE(chat.answer.tokens.size() == 2);
  CHECK(chat.answer.tokens[0].token == "y");
  CHECK(chat.answer.tokens[0].log_prob == -0.25F);
  CHECK(chat.answer.tokens[0].alternatives ==
        std::vector<std::pair<std::string, float>>{{"y", -0.25F}, {"n", -2.0F}});
  CHECK(chat.answer.tokens[1].token == "es");
  CHECK(chat.answer.tokens[1].log_prob != chat.answer.tokens[1].log_prob);

  const auto plain = response::read(
      response::json,
      R"({"choices":[{"text":"ab","logprobs":{"tokens":["a","b"],"token_logprobs":[null,-1.5],)"
      R"("top_logprobs":[null,{"b":-1.5,"c":-3}],"text_offset":[0,1]}}]})");
  REQUIRE(plain.finished);
  REQUIRE(plain.answer.tokens.size() == 2);
  CHECK(plain.answer.tokens[0].alternatives.empty());
  CHECK(plain.answer.tokens[1].log_prob == -1.5F);
  CHECK(plain.answer.tokens[1].alternatives.size() == 2);
}

TEST_CASE("a key that the server repeats is in no error", "[serve]") {
  const std::vector<std::pair<crayon::serve::response_head, std::string>> all{
      {{401, "application/json"}, R"({"error":{"message":"the key sk-12345 is wrong"}})"},
      {{500, "text/html"}, "<p>" + std::string(50, 'x') + "sk-12345"},  // would be cut within it
      {{200, "text/html"}, "Authorization: Bearer sk-12345"},
      {{200, "text/sk-12345"}, "hi"},
      {{403, "text/sk-12345"}, "hi"},
      {{200, "application/json"}, "{\"sk-12345\": sk-12345"},
      {{200, "text/event-stream"}, "data: sk-12345\n\n"},
      {{200, "text/event-stream"}, "data: {\"error\": \"sk-12345 sk-12345\"}\n\n"}};
  for (const auto& [head, body] : all) {
    const auto out = response::read(head, body);
    REQUIRE_FALSE(out.finished);
    CAPTURE(out.finished.error().text);
    CHECK(out.finished.error().text.find("sk-") == std::string::npos);
    CHECK(out.finished.error().text.find('*') != std::string::npos);
  }
}
