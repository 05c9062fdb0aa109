// SPDX-License-Identifier: MIT
#include <crayon/serve/openai_answer.hpp>

#include <string>
#include <string_view>

#include "../catch.hpp"

namespace {

std::string event_data(std::string_view event) {
  REQUIRE(event.starts_with("data: "));
  REQUIRE(event.ends_with("\n\n"));
  return std::string(event.substr(6, event.size() - 8));
}

}  // namespace

TEST_CASE("answers in OpenAI's shape", "[serve]") {
  using nlohmann::json;
  const crayon::serve::generation done{5, 2, true};
  crayon::serve::answer_frame chat{"id-1", "tiny", 1700000000, true};
  CHECK(json::parse(chat.document("four", done)) ==
        json::parse(R"({"id":"id-1","object":"chat.completion","created":1700000000,"model":"tiny",
                        "choices":[{"index":0,"logprobs":null,"finish_reason":"length",
                                    "message":{"role":"assistant","content":"four"}}],
                        "usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}})"));
  std::size_t offset = 0;
  const auto first = json::parse(event_data(chat.role_event()));
  CHECK(first["object"] == "chat.completion.chunk");
  CHECK(first["choices"] == json::parse(R"([{"index":0,"logprobs":null,"finish_reason":null,
                         "delta":{"role":"assistant","content":""}}])"));
  const auto next = json::parse(event_data(chat.piece_event("ur", {}, offset)));
  CHECK(next["choices"][0]["delta"] == json{{"content", "ur"}});
  const auto last = json::parse(event_data(chat.last_event(done, {}, offset)));
  CHECK(last["choices"][0]["delta"] == json::object());
  CHECK(last["choices"][0]["finish_reason"] == "length");
  CHECK(last["choices"][0]["logprobs"].is_null());
  const auto usage = json::parse(event_data(chat.usage_event(done)));
  CHECK(usage["choices"] == json::array());
  CHECK(usage["usage"]["total_tokens"] == 7);

  const crayon::serve::answer_frame text{"id-2", "tiny", 0, false};
  const auto document = json::parse(text.document("a\xFF", {1, 1, false}));
  CHECK(document["object"] == "text_completion");
  CHECK(document["choices"][0]["text"] == "a\uFFFD");  // half a character is no JSON
  CHECK(document["choices"][0]["finish_reason"] == "stop");
  CHECK(json::parse(event_data(text.piece_event("b", {}, offset)))["choices"][0]["text"] == "b");

  CHECK(json::parse(crayon::serve::error_body("too \"long\"", "invalid_request_error", "400")) ==
        json::parse(R"({"error":{"message":"too \"long\"","type":"invalid_request_error",
                                 "param":null,"code":"400"}})"));
}

TEST_CASE("log-probabilities in OpenAI's shape", "[serve]") {
  using nlohmann::json;
  const crayon::serve::token_log log{{{"four", -0.5F}, {{"four", -0.5F}, {"\xFF", -2.0F}}},
                                     {{"ty", -1.0F}, {}}};
  const crayon::serve::generation done{5, 2, false};
  const crayon::serve::answer_frame chat{"id", "tiny", 0, true, true};
  CHECK(json::parse(chat.document("fourty", done, log))["choices"][0]["logprobs"] ==
        json::parse(R"({"refusal":null,"content":[
          {"token":"four","logprob":-0.5,"bytes":[102,111,117,114],"top_logprobs":[
            {"token":"four","logprob":-0.5,"bytes":[102,111,117,114]},
            {"token":"\uFFFD","logprob":-2.0,"bytes":[255]}]},
          {"token":"ty","logprob":-1.0,"bytes":[116,121],"top_logprobs":[]}]})"));
  std::size_t offset = 0;
  const auto piece = json::parse(event_data(chat.piece_event("fourty", log, offset)));
  CHECK(piece["choices"][0]["logprobs"]["content"].size() == 2);
  CHECK(json::parse(event_data(chat.last_event(done, log, offset)))["choices"][0]["logprobs"]
                   ["content"]
                       .size() == 2);

  const crayon::serve::answer_frame text{"id", "tiny", 0, false, true};
  CHECK(json::parse(text.document("fourty", done, log))["choices"][0]["logprobs"] ==
        json::parse(R"({"tokens":["four","ty"],"token_logprobs":[-0.5,-1.0],
                        "top_logprobs":[{"four":-0.5,"\uFFFD":-2.0},{}],"text_offset":[0,4]})"));
  offset = 10;
  const auto later = json::parse(event_data(text.piece_event("fourty", log, offset)));
  CHECK(later["choices"][0]["logprobs"]["text_offset"] == json{10, 14});
  CHECK(offset == 16);
}
