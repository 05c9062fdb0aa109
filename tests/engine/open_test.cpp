// SPDX-License-Identifier: MIT
#include <crayon/engine/open.hpp>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/tokenizer/bpe_trainer.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

namespace {

using namespace crayon;

/// As the pool's index vectors of the test are made for.
struct mean_config : engine::default_config {
  using embedding = match::mean_pooling;
};

/// A model, its tokenizer and a pool on disk for the time of a test.
struct files {
  files() {
    const std::vector<std::string> texts{"the cat sat on the mat", "the cat ate the rat"};
    const auto tokens = tokenizer::bpe_trainer({.vocab = 280}).train(texts);
    REQUIRE(tokens);
    REQUIRE(tokens->save(tokenizer));
    auto config = test::tiny_weights(1).config();
    config.vocab = tokens->size();
    model::llama_weights<float> weights(config);
    rng random(3);
    for (float& w : weights.matrices()) w = 0.3F * random.normal();
    REQUIRE(model::write_llama2c(model, weights));
    adapter::pool_info info;
    info.base_hash = weights.hash();
    REQUIRE(adapter::save_pool(pool, test::tiny_pool(weights, info)));
  }
  ~files() {
    for (const auto& path : {model, tokenizer, pool}) std::remove(path.c_str());
  }
  const std::string stem = "crayon_open_test_" + std::to_string(::getpid());
  const std::string model = stem + ".bin", tokenizer = stem + ".tok", pool = stem + ".safetensors";
};

}  // namespace

TEST_CASE("from files to a customized answer", "[engine]") {
  const files at;
  auto device = engine::open<mean_config>(at.model, at.tokenizer);
  REQUIRE(device);
  CHECK(device->base().tokens.eos() == 1);  // of a llama2.c checkpoint
  const auto pool = adapter::load_pool<float>(at.pool);
  REQUIRE(pool);
  const std::vector<engine::sample> mine{{"the cat", "sat"}, {"the rat", "ate"}};
  const auto base = device->answer("the mat", {.max_tokens = 24});
  const auto made = device->customize(*pool, mine);
  REQUIRE(made);
  const auto answer = device->answer("the mat", {.max_tokens = 24});
  REQUIRE(answer);
  CHECK(answer->text != base->text);

  // The space that the tokenizer puts before a text is not part of an answer.
  const auto& tokens = device->base().tokens;
  CHECK(tokens.decode(tokens.encode("sat").front()).front() == ' ');
  engine::device_engine<mean_config> fork = device->fork();
  CHECK(fork.answer("the mat", {.max_tokens = 24})->text == answer->text);
}

TEST_CASE("files that are missing or do not belong together are named", "[engine]") {
  const files at;
  CHECK(engine::open("no-model.bin", at.tokenizer).error().text.find("no-model.bin") !=
        std::string::npos);
  CHECK(engine::open(at.model, "no-tokens").error().text.find("no-tokens") != std::string::npos);
  CHECK(engine::open(at.tokenizer, at.tokenizer).error().text.find(at.tokenizer) !=
        std::string::npos);
  const auto threads = std::make_shared<serial_executor>();
  CHECK(engine::open(at.model, at.tokenizer, threads, 24)->context() == 24);
  CHECK(engine::open(at.model, at.tokenizer, threads, 97).error().text ==
        at.model + ": a context of 97 tokens, the model's is 96");
  const std::vector<std::string> other{"a bb", "bb a"};
  REQUIRE(tokenizer::bpe_trainer({.vocab = 262, .min_count = 1}).train(other)->save(at.tokenizer));
  const auto wrong = engine::open(at.model, at.tokenizer);
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().code == errc::mismatch);
  CHECK(wrong.error().text.find(at.tokenizer) != std::string::npos);
}

TEST_CASE("stories260K tells its story", "[engine]") {
  const char* variable = std::getenv("CRAYON_DATA");
  const std::string folder =
      (variable ? std::string(variable) : CRAYON_SOURCE_DIR "/../shared/data") +
      "/models/stories260K/";
  auto device = engine::open(folder + "stories260K.bin", folder + "tok512.bin");
  if (!device && device.error().code == errc::not_found) {
    WARN("skipped, no " << folder);
    return;
  }
  REQUIRE(device);
  const auto answer = device->answer("Once upon a time", {.max_tokens = 60});
  REQUIRE(answer);
  // As in the model's own documentation.
  CHECK(answer->text.find(", there was a little girl named Lily. She loved to play outside in the "
                          "park.") == 0);
  CHECK(answer->seen.tokens == 60);
}
