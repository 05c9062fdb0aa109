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
      "{\"prompt\":\"x\"" + (fields.empty() ? "" : "," + fields) + "}", false, {"tiny"}, limits);
  REQUIRE(parsed);
  return parsed->generation.options;
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
  const auto chat = request::parse_request(body, true, {"tiny"}, {});
  REQUIRE(chat);
  CHECK(chat->chat);
  CHECK(chat->stream);
  CHECK(chat->stream_usage);
  CHECK(chat->generation.prompt == "2 + 2");
  REQUIRE(chat->generation.messages.size() == 2);
  CHECK(chat->generation.messages[0].role == "system");
  const auto as_text = request::parse_request(body, false, {"tiny"}, {});
  REQUIRE_FALSE(as_text);
  CHECK(as_text.error().text == "'prompt' is null, expected one string");
  const auto one = request::parse_request(R"({"prompt":["only"]})", false, {"tiny"}, {});
  REQUIRE(one);
  CHECK(one->generation.prompt == "only");
  CHECK_FALSE(one->stream);
}

TEST_CASE("a refusal names the field, its value and what was expected", "[serve]") {
  const auto says = [](std::string_view text, std::string_view expected) {
    const auto refused = request::parse_request(text, false, {"tiny"}, {});
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
                               false, {"tiny"}, {}));
  says(R"({"prompt":"x","stop":["a","b","c","d","e"]})",
       "'stop' is [\"a\",\"b\",\"c\",\"d\",\"e\"], expected a string or a list of up to 4 strings, "
       "none empty");
  says("{\"prompt\":{\"long\":\"" + std::string(80, 'x') + "\"}}",
       "'prompt' is {\"long\":\"" + std::string(51, 'x') + "..., expected one string");
}

TEST_CASE("a request names the base, an adapter, or a mix of adapters", "[serve]") {
  const crayon::serve::served_models models{"base", {"dates", "numbers"}, true};
  const auto parse = [&](const std::string& fields) {
    return request::parse_request("{\"prompt\":\"x\"" + fields + "}", false, models, {});
  };
  const auto plain = parse("");
  REQUIRE(plain);
  CHECK(plain->model == "base");
  CHECK(plain->generation.adapter.empty());
  CHECK(plain->generation.blend.empty());
  const auto one = parse(R"(,"model":"dates")");
  REQUIRE(one);
  CHECK(one->model == "dates");
  CHECK(one->generation.adapter == "dates");
  for (const char* model : {"", R"(,"model":"base")", R"(,"model":"blend")"}) {
    const auto mix = parse(std::string(model) + R"(,"blend":{"dates":0.75,"numbers":-2})");
    REQUIRE(mix);
    CHECK(mix->generation.adapter.empty());
    CHECK(mix->generation.blend ==
          std::vector<std::pair<std::string, float>>{{"dates", 0.75F}, {"numbers", -2.0F}});
  }
  const auto says = [&](const std::string& fields, const std::string& expected) {
    const auto refused = parse(fields);
    CAPTURE(fields);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().text.find(expected) != std::string::npos);
  };
  says(R"(,"model":"times")", R"(has "base", "dates", "numbers", "blend")");
  says(R"(,"model":"blend")", "'blend' is null, expected weights");
  says(R"(,"model":"dates","blend":{"dates":1})", "none beside the model \"dates\"");
  says(R"(,"blend":{})", "'blend' is {}");
  says(R"(,"blend":[1])", "'blend' is [1]");
  says(R"(,"blend":{"dates":"1"})", "'blend' is");
  says(R"(,"blend":{"dates":1e300})", "'blend' is");
  const auto none = request::parse_request(R"({"prompt":"x","blend":{"a":1}})", false, {"b"}, {});
  REQUIRE_FALSE(none);
  CHECK(none.error().text.find("no adapters to blend") != std::string::npos);
}

TEST_CASE("log-probabilities, as chats and as completions ask for them", "[serve]") {
  const auto parse = [](bool chat, const std::string& fields) {
    return request::parse_request(
        (chat ? R"({"messages":[{"role":"user","content":"x"}])" : R"({"prompt":"x")") + fields +
            "}",
        chat, {"tiny"}, {});
  };
  CHECK_FALSE(parse(true, "")->generation.log_probs);
  CHECK_FALSE(parse(false, R"(,"logprobs":false)")->generation.log_probs);
  CHECK(parse(true, R"(,"logprobs":true)")->generation.log_probs);
  CHECK(parse(true, R"(,"logprobs":true,"top_logprobs":20)")->generation.top_log_probs == 20);
  CHECK(parse(false, R"(,"logprobs":0)")->generation.log_probs);
  CHECK(parse(false, R"(,"logprobs":5)")->generation.top_log_probs == 5);
  CHECK_FALSE(parse(true, R"(,"top_logprobs":2)"));
  CHECK_FALSE(parse(true, R"(,"logprobs":true,"top_logprobs":21)"));
  CHECK_FALSE(parse(true, R"(,"logprobs":3)"));
  CHECK_FALSE(parse(false, R"(,"logprobs":6)"));
  CHECK_FALSE(parse(false, R"(,"logprobs":-1)"));
}
