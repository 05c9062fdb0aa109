// SPDX-License-Identifier: MIT
#include <crayon/model/generate.hpp>

#include "fixture.hpp"

using namespace crayon;
using model::generate;
using model::stop_reason;
using session = model::llama_session<simd::scalar, float>;

namespace {

/// Draws 10, 11, 12, ... whatever the logits say.
struct counting_sampler {
  std::int32_t next = 10;
  std::int32_t operator()(std::span<float>) { return next++; }
};

}  // namespace

TEST_CASE("generation says why it stopped", "[model]") {
  const auto weights = random_weights<float>(small_config());
  session s(weights);
  const std::vector<std::int32_t> prompt{1, 5, 7};
  std::vector<std::int32_t> seen;
  const auto keep = [&](std::int32_t id) { seen.push_back(id); };

  counting_sampler draw;
  auto done = generate(s, prompt, draw, keep, {.max_tokens = 4});
  REQUIRE(done);
  CHECK(done->reason == stop_reason::limit);
  CHECK(done->tokens == 4);
  CHECK(seen == std::vector<std::int32_t>{10, 11, 12, 13});
  CHECK(s.position() == prompt.size() + 3);

  s.reset();
  seen.clear();
  draw = {};
  const std::vector<std::int32_t> stops{2, 12};
  done = generate(s, prompt, draw, keep, {.max_tokens = 100, .tokens = stops});
  REQUIRE(done);
  CHECK(done->reason == stop_reason::stop_token);
  CHECK(seen == std::vector<std::int32_t>{10, 11});

  s.reset();
  draw = {};
  done = generate(s, prompt, draw, [](std::int32_t id) { return id < 14; });
  REQUIRE(done);
  CHECK(done->reason == stop_reason::cancelled);
  CHECK(done->tokens == 5);

  s.reset();
  draw = {-1000};  // ids below are never run: the context is the limit
  model::greedy best;
  done = generate(s, prompt, best, [](std::int32_t) {}, {.max_tokens = 1000});
  REQUIRE(done);
  CHECK(done->reason == stop_reason::context_full);
  CHECK(done->tokens == s.context() - prompt.size() + 1);

  s.reset();
  done = generate(s, prompt, best, keep, {.max_tokens = 0});
  REQUIRE(done);
  CHECK(done->tokens == 0);
}

TEST_CASE("generation refuses prompts it cannot run", "[model]") {
  const auto weights = random_weights<float>(small_config());
  session s(weights);
  model::greedy best;
  const auto refused = [&](const std::vector<std::int32_t>& prompt) {
    const auto done = generate(s, prompt, best, [](std::int32_t) { FAIL("no token expected"); });
    REQUIRE_FALSE(done);
    CHECK(s.position() == 0);
    return done.error().text;
  };
  CHECK(refused({}) == "the prompt has no tokens");
  CHECK(refused({1, 50}) == "token 1: id 50 is outside the vocabulary of 50");
  CHECK(refused({-1}) == "token 0: id -1 is outside the vocabulary of 50");
  CHECK(refused(std::vector<std::int32_t>(41, 1)) == "41 tokens do not fit the context of 40");
}

TEST_CASE("logits that are not finite end the generation with an error", "[model]") {
  auto weights = random_weights<float>(small_config());
  for (float& x : weights.norms()) x = 3e38F;
  session s(weights);
  model::greedy best;
  const auto done = generate(s, std::vector<std::int32_t>{1, 2}, best, [](std::int32_t) {});
  REQUIRE_FALSE(done);
  CHECK(done.error().text == "the logits after 2 tokens are not finite");
}
