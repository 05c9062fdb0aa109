// SPDX-License-Identifier: MIT
#include <crayon/serve/openai_request.hpp>

#include <string>
#include <string_view>

#include "../catch.hpp"

namespace {

namespace request {

using crayon::serve::parse_request;
using crayon::serve::request_limits;

crayon::generation_options options_of(const std::string& fields, request_limits limits = {}) {
  const auto parsed = parse_request(
      "{\"prompt\":\"x\"" + (fields.empty() ? "" : "," + fields) + "}", false, "tiny", limits);
  REQUIRE(parsed);
  return parsed->generation.options;
}

std::string data_of(std::string_view event) {
  REQUIRE(event.starts_with("data: "));
  REQUIRE(event.ends_with("\n\n"));
  return std::string(event.substr(6, event.size() - 8));
}

}  // namespace request

}  // namespace

TEST_CASE("what a request leaves out is OpenAI's default, within the server's limits", "[serve]") {
  const auto plain = request::options_of("");
  CHECK(plain.temperature == 1);
  CHECK(plain.top_p == 1);
  CHECK(plain.max_tokens == 256);
  CHECK(plain.stop.empty());
  CHECK(request::options_of("\"temperature\":null,\"stop\":null").temperature == 1);
  CHECK(request::options_of("", {.max_tokens = 5, .default_tokens = 9}).max_tokens == 5);
  CHECK(request::options_of("\"max_tokens\":3").max_tokens == 3);
  CHECK(request::options_of("\"max_completion_tokens\":4").max_tokens == 4);
  CHECK(request::options_of("\"max_tokens\":18446744073709551615").max_tokens == 1024);
  CHECK(request::options_of("\"temperature\":0,\"top_p\":0.5").top_p == 0.5F);
  CHECK(request::options_of("\"seed\":18446744073709551615").seed == ~std::uint64_t{0});
  CHECK(request::options_of("\"seed\":-1").seed == ~std::uint64_t{0});
  CHECK(request::options_of("\"stop\":\"\\n\"").stop == std::vector<std::string>{"\n"});
  CHECK(request::options_of("\"stop\":[\"a\",\"b\"]").stop == std::vector<std::string>{"a", "b"});
}

TEST_CASE("chats and completions are told apart by their path", "[serve]") {
  const std::string body =
      R"({"model":"tiny","stream":true,"stream_options":{"include_usage":true},"logprobs":false,)"
      R"("tools":[],"n":1,"messages":[{"role":"system","content":"s"},{"role":"user","content":)"
      R"([{"type":"text","text":"2 "},{"type":"text","text":"+ 2"}]}]})";
  const auto chat = request::parse_request(body, true, "tiny", {});
  REQUIRE(chat);
  CHECK(chat->chat);
  CHECK(chat->stream);
  CHECK(chat->stream_usage);
  CHECK(chat->generation.prompt == "2 + 2");
  REQUIRE(chat->generation.messages.size() == 2);
  CHECK(chat->generation.messages[0].role == "system");
  const auto as_text = request::parse_request(body, false, "tiny", {});
  REQUIRE_FALSE(as_text);
  CHECK(as_text.error().text == "'prompt' is null, expected one string");
  const auto one = request::parse_request(R"({"prompt":["only"]})", false, "tiny", {});
  REQUIRE(one);
  CHECK(one->generation.prompt == "only");
  CHECK_FALSE(one->stream);
}

TEST_CASE("a refusal names the field, its value and what was expected", "[serve]") {
  const auto says = [](std::string_view text, std::string_view expected) {
    const auto refused = request::parse_request(text, false, "tiny", {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().text == expected);
  };
  says("{\"prompt\":", "the body is not valid JSON");
  says("7", "'body' is 7, expected an object");
  says(R"({"model":"huge"})", "the model \"huge\" does not exist; this server has \"tiny\"");
  says(R"({"prompt":"x","temperature":2.5})",
       "'temperature' is 2.5, expected a number from 0.0 to 2.0");
  says(R"({"prompt":"x","best_of":2})", "'best_of' is 2, expected 1: one answer per request");
  says(R"({"prompt":"x","echo":true})",
       "'echo' is true, expected none: this server does not support it");
  says(R"({"prompt":"x","logit_bias":{"5":100}})",
       "'logit_bias' is {\"5\":100}, expected none: this server does not support it");
  says(R"({"prompt":"x","presence_penalty":0.5})",
       "'presence_penalty' is 0.5, expected 0: this server does not support it");
  says(R"({"prompt":"x","response_format":{"type":"json_object"}})",
       "'response_format' is {\"type\":\"json_object\"}, expected {\"type\": \"text\"}");
  CHECK(request::parse_request(R"({"prompt":"x","logit_bias":{},"frequency_penalty":0.0,)"
                               R"("response_format":{"type":"text"}})",
                               false, "tiny", {}));
  says(R"({"prompt":"x","stop":["a","b","c","d","e"]})",
       "'stop' is [\"a\",\"b\",\"c\",\"d\",\"e\"], expected a string or a list of up to 4 strings, "
       "none empty");
  says("{\"prompt\":{\"long\":\"" + std::string(80, 'x') + "\"}}",
       "'prompt' is {\"long\":\"" + std::string(51, 'x') + "..., expected one string");
}

TEST_CASE("answers in OpenAI's shape", "[serve]") {
  using nlohmann::json;
  const crayon::serve::generation done{5, 2, true};
  crayon::serve::answer_frame chat{"id-1", "tiny", 1700000000, true};
  CHECK(json::parse(chat.document("four", done)) ==
        json::parse(R"({"id":"id-1","object":"chat.completion","created":1700000000,"model":"tiny",
                        "choices":[{"index":0,"logprobs":null,"finish_reason":"length",
                                    "message":{"role":"assistant","content":"four"}}],
                        "usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}})"));
  const auto first = json::parse(request::data_of(chat.event("fo", true)));
  CHECK(first["object"] == "chat.completion.chunk");
  CHECK(first["choices"] == json::parse(R"([{"index":0,"logprobs":null,"finish_reason":null,
                         "delta":{"role":"assistant","content":"fo"}}])"));
  const auto next = json::parse(request::data_of(chat.event("ur", false)));
  CHECK(next["choices"][0]["delta"] == json{{"content", "ur"}});
  const auto last = json::parse(request::data_of(chat.event("", false, &done)));
  CHECK(last["choices"][0]["delta"] == json::object());
  CHECK(last["choices"][0]["finish_reason"] == "length");
  const auto usage = json::parse(request::data_of(chat.usage_event(done)));
  CHECK(usage["choices"] == json::array());
  CHECK(usage["usage"]["total_tokens"] == 7);

  const crayon::serve::answer_frame text{"id-2", "tiny", 0, false};
  const auto document = json::parse(text.document("a\xFF", {1, 1, false}));
  CHECK(document["object"] == "text_completion");
  CHECK(document["choices"][0]["text"] == "a\uFFFD");  // half a character is no JSON
  CHECK(document["choices"][0]["finish_reason"] == "stop");
  CHECK(json::parse(request::data_of(text.event("b", true)))["choices"][0]["text"] == "b");

  CHECK(json::parse(crayon::serve::error_body("too \"long\"", "invalid_request_error", "400")) ==
        json::parse(R"({"error":{"message":"too \"long\"","type":"invalid_request_error",
                                 "param":null,"code":"400"}})"));
}
