// SPDX-License-Identifier: MIT
#include <crayon/serve/completion.hpp>

#include <cmath>
#include <vector>

#include "../catch.hpp"

TEST_CASE("log-probabilities that are not what they should be lose nothing else", "[serve]") {
  using crayon::serve::token_log_prob;
  const auto read = [](const char* text) {
    std::vector<token_log_prob> out;
    crayon::serve::detail::read_log_probs(nlohmann::json::parse(text), out);
    return out;
  };
  // As the API's reference has them: a chat's, and a completion's.
  const auto chat = read(R"({"content":[{"token":"a","logprob":-0.5,"bytes":[97],
      "top_logprobs":[{"token":"a","logprob":-0.5},{"token":"b","logprob":-1.5}]}]})");
  const auto text = read(R"({"tokens":["a"],"token_logprobs":[-0.5],"text_offset":[0],
      "top_logprobs":[{"a":-0.5,"b":-1.5}]})");
  for (const auto& out : {chat, text}) {
    REQUIRE(out.size() == 1);
    CHECK(out[0].token == "a");
    CHECK(out[0].log_prob == -0.5F);
    REQUIRE(out[0].alternatives.size() == 2);
    CHECK(out[0].alternatives[1].first == "b");
    CHECK(out[0].alternatives[1].second == -1.5F);
  }
  // The first token of an echoed prompt has none; lists may be short, and elements anything.
  const auto odd = read(R"({"tokens":["a","b",3],"token_logprobs":[null,-0.5],
      "top_logprobs":[null,"x"]})");
  REQUIRE(odd.size() == 3);
  CHECK(std::isnan(odd[0].log_prob));
  CHECK(odd[1].log_prob == -0.5F);
  CHECK(odd[1].alternatives.empty());
  CHECK(odd[2].token.empty());
  CHECK(std::isnan(odd[2].log_prob));
  CHECK(read(R"({"content":[7,{"token":"a","top_logprobs":[5]}]})").size() == 2);
  for (const char* nothing : {"null", "3", "[]", "{}", R"({"content":null})", R"({"tokens":7})"}) {
    CHECK(read(nothing).empty());
  }
}
