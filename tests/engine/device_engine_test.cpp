// SPDX-License-Identifier: MIT
#include <crayon/engine/device_engine.hpp>

#include <atomic>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include <crayon/blend/activations.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/engine/customized_task.hpp>
#include <crayon/engine/device_answer.hpp>
#include <crayon/engine/matched_samples.hpp>
#include <crayon/engine/sample.hpp>
#include <crayon/model/generate.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

namespace {

using namespace crayon;
using engine::device_engine;
using engine::finish_reason;
using engine::sample;
using test::tiny_config;
using session = model::llama_session<simd::scalar, float>;
using engine_delta = model::lora_delta<simd::scalar, float>;

const std::vector<sample> user_samples{{"2+3", "five"}, {"7+1", "eight"}, {"4+4?", "eight"}};

device_engine<tiny_config> tiny(std::size_t context = 96) {
  auto made = device_engine<tiny_config>::make(test::tiny_weights(1, context), {});
  REQUIRE(made);
  return *std::move(made);
}

/// The same answer by the layers below, token by token.
template <class Delta>
std::string by_hand(const model::llama_weights<float>& weights, std::string_view prompt,
                    std::size_t tokens, const Delta& with) {
  session s(weights);
  const auto ids = engine::encode_prompt(tokenizer::byte_tokenizer{}, prompt);
  model::greedy draw;
  const std::array stops{std::int32_t{1}, std::int32_t{2}};
  std::string text;
  const auto done = model::generate(
      s, ids, draw, [&](std::int32_t id) { text += tokenizer::byte_tokenizer::decode(id); },
      {.max_tokens = tokens, .tokens = stops}, with);
  REQUIRE(done);
  return text;
}

/// What a pool says about itself: `set` fills in some of it.
template <class Set>
adapter::pool_info info(Set set) {
  adapter::pool_info made;
  set(made);
  return made;
}

/// f(x) without the engine: mean states, minus the centre, of unit length. A prompt alone has no
/// second half.
std::vector<float> embedding_of(const model::llama_weights<float>& weights,
                                std::span<const std::int32_t> ids, std::size_t prompt_tokens,
                                const std::vector<float>& centre = {}) {
  session s(weights);
  std::vector<float> f(2 * weights.config().dim);
  match::embed(s, ids, prompt_tokens, f);
  double squares = 0;
  for (std::size_t j = 0; j < f.size(); ++j) {
    if (!centre.empty()) f[j] -= centre[j];
    if (ids.size() == prompt_tokens && j >= f.size() / 2) f[j] = 0;
    squares += double{f[j]} * double{f[j]};
  }
  for (float& x : f) x = static_cast<float>(double{x} / std::sqrt(squares));
  return f;
}

}  // namespace

TEST_CASE("an answer is what the layers below generate", "[engine]") {
  auto device = tiny();
  for (const std::string prompt : {"2+3=", "", "a longer prompt, of several words"}) {
    std::string pieces;
    const auto answer = device.answer(prompt, {.max_tokens = 20}, [&](std::string_view piece) {
      pieces += piece;
      return true;
    });
    REQUIRE(answer);
    CHECK(answer->text == by_hand(device.base().weights, prompt, 20, model::no_delta{}));
    CHECK(pieces == answer->text);
    CHECK(answer->prompt_tokens == prompt.size() + 1);
    CHECK(answer->tokens <= 20);
    CHECK((answer->finished == finish_reason::length) == (answer->tokens == 20));
    CHECK(answer->seen.tokens == answer->tokens);
    CHECK(answer->seen.max_probability > 0);
    CHECK(answer->seen.mean_log_prob < 0);
    CHECK(std::isnan(answer->seen.scope_distance));
  }
}

TEST_CASE("an engine has room for as many tokens as it was asked for", "[engine]") {
  const auto make = [](std::size_t model, std::size_t asked) {
    return device_engine<tiny_config>::make(test::tiny_weights(1, model), {},
                                            std::make_shared<serial_executor>(), asked);
  };
  CHECK(make(96, 0)->context() == 96);
  CHECK(make(131072, 0)->context() == engine::default_context);  // and not 16 MB of cache
  CHECK(make(131072, 5000)->context() == 5000);
  const auto above = make(96, 97);
  REQUIRE_FALSE(above);
  CHECK(above.error().text == "a context of 97 tokens, the model's is 96");

  auto narrow = *make(96, 12);
  CHECK(narrow.fork().context() == 12);
  const auto answer = narrow.answer("12345", {.max_tokens = 50});  // BOS and 5 tokens
  REQUIRE(answer);
  CHECK(answer->tokens == 12 - 6 + 1);  // the last one drawn needs no place
  CHECK(answer->finished == finish_reason::length);
  CHECK(tiny().answer("12345", {.max_tokens = 50})->text.starts_with(answer->text));
  CHECK(narrow.begin("123456789012").error().text == "13 tokens do not fit the context of 12");
}

TEST_CASE("the signals of an answer are those of its distributions", "[engine]") {
  auto device = tiny();
  const auto begun = device.begin("abc");
  REQUIRE(begun);
  CHECK(begun->tokens == 0);
  const auto answer = device.finish({.max_tokens = 6});
  REQUIRE(answer);

  session s(device.base().weights);
  const auto ids = engine::encode_prompt(tokenizer::byte_tokenizer{}, "abc");
  auto logits = s.prefill(ids);
  float lowest = 1;
  double log_prob = 0;
  for (std::size_t i = 0; i < answer->tokens; ++i) {
    const auto token = model::greedy{}(logits);
    std::vector<float> p(logits.begin(), logits.end());
    simd::scalar::softmax(p.data(), p.size());
    const float top = p[static_cast<std::size_t>(token)];
    if (i == 0) CHECK(begun->max_probability == Approx(top));
    lowest = std::min(lowest, top);
    log_prob += std::log(double{top});
    logits = s.forward(token);
  }
  CHECK(answer->seen.max_probability == Approx(lowest));
  CHECK(answer->seen.mean_log_prob == Approx(log_prob / static_cast<double>(answer->tokens)));
}

TEST_CASE("customizing is embedding, matching and blending", "[engine]") {
  auto device = tiny();
  const auto& weights = device.base().weights;
  const auto pool = test::tiny_pool(weights, info([&](auto& i) {
                                      i.base_hash = weights.hash();
                                      i.tau = 0.2F;
                                    }));
  const auto made = device.customize(pool, user_samples);
  REQUIRE(made);

  const tokenizer::byte_tokenizer tokens;
  std::vector<float> rows, prompts;
  for (const auto& one : user_samples) {
    const auto ids = engine::encode_sample(tokens, one);
    CHECK(ids.ids.front() == tokens.bos());
    CHECK(ids.ids.back() == tokens.eos());
    const auto f = embedding_of(weights, ids.ids, ids.prompt_tokens);
    rows.insert(rows.end(), f.begin(), f.end());
    const auto prompt = engine::encode_prompt(tokens, one.prompt);
    const auto g = embedding_of(weights, prompt, prompt.size());
    prompts.insert(prompts.end(), g.begin(), g.end());
  }
  const std::size_t d = rows.size() / user_samples.size();
  const match::cosine_softmax matcher{0.2F};
  const auto expected = matcher.weights(pool.index(), {rows.data(), user_samples.size(), d});
  REQUIRE(made->weights.size() == 3);
  for (std::size_t k = 0; k < 3; ++k) CHECK(made->weights[k] == Approx(expected[k]));

  const auto blended = blend::concat::blend(pool, blend::slots_of(made->weights));
  REQUIRE(blended);
  const auto bound = engine_delta::bind(weights.config(), *blended);
  REQUIRE(bound);
  const auto answer = device.answer("9+9=", {.max_tokens = 24});
  REQUIRE(answer);
  CHECK(answer->text == by_hand(weights, "9+9=", 24, *bound));
  CHECK(answer->text != by_hand(weights, "9+9=", 24, model::no_delta{}));
  REQUIRE(device.blended() != nullptr);
  CHECK(device.blended()->shapes() == blended->shapes());

  // The scope distance: the query's weights against the prompts' weights, both without completions.
  const auto user = matcher.weights(pool.index(), {prompts.data(), user_samples.size(), d});
  const auto query_ids = engine::encode_prompt(tokens, "9+9=");
  const auto query = embedding_of(weights, query_ids, query_ids.size());
  const auto own = matcher.weights(pool.index(), {query.data(), 1, d});
  CHECK(answer->seen.scope_distance == Approx(router::weight_cross_entropy(own, user)));

  device.use_base();
  CHECK(device.answer("9+9=", {.max_tokens = 24})->text ==
        by_hand(weights, "9+9=", 24, model::no_delta{}));
  CHECK(std::isnan(device.begin("9+9=")->scope_distance));
}

TEST_CASE("a centre is subtracted on both sides", "[engine]") {
  auto device = tiny();
  const auto& weights = device.base().weights;
  std::vector<float> centre(2 * weights.config().dim);
  rng random(5);
  for (float& c : centre) c = 0.05F * random.normal();
  const auto pool = test::tiny_pool(weights, info([&](auto& i) {
                                      i.tau = 0.2F;
                                      i.centre = centre;
                                    }));
  const std::vector<sample> one{user_samples[0]};
  const auto made = device.customize(pool, one);
  REQUIRE(made);
  const auto ids = engine::encode_sample(tokenizer::byte_tokenizer{}, one[0]);
  const auto f = embedding_of(weights, ids.ids, ids.prompt_tokens, centre);
  const auto expected = match::cosine_softmax{0.2F}.weights(pool.index(), {f.data(), 1, f.size()});
  for (std::size_t k = 0; k < 3; ++k) CHECK(made->weights[k] == Approx(expected[k]));
  // The one sample's own prompt is where the task is: no prompt can be nearer in weights than
  // their entropy.
  double entropy = 0;
  const auto begun = device.begin(one[0].prompt);
  REQUIRE(begun);
  const auto g =
      embedding_of(weights, std::span(ids.ids).first(ids.prompt_tokens), ids.prompt_tokens, centre);
  for (const float w : match::cosine_softmax{0.2F}.weights(pool.index(), {g.data(), 1, g.size()})) {
    entropy -= double{w} * std::log(double{w});
  }
  CHECK(begun->scope_distance == Approx(entropy));
}

TEST_CASE("an empty prompt has no place in the pool's space", "[engine]") {
  struct by_errors : tiny_config {
    using embedding = crayon::match::error_pooling;
  };
  auto device = device_engine<by_errors>::make(test::tiny_weights(1), {});
  REQUIRE(device);
  const std::size_t length = 3 * device->base().weights.config().dim;
  std::vector<float> index(3 * length);
  std::vector<adapter::lora_adapter<float>> adapters;
  for (std::size_t k = 0; k < 3; ++k) {
    adapters.push_back(test::tiny_adapter(device->base().weights.config(), 50 + k));
    index[k * length + k] = 1;
  }
  const auto pool =
      adapter::pool<float>::build(adapters, {index.data(), 3, length}, info([&](auto& i) {
                                    i.tau = 0.2F;
                                    i.centre.assign(length, 0.5F);
                                  }));
  REQUIRE(pool);
  REQUIRE(device->customize(*pool, user_samples));
  // It is as near to one adapter as to another: all weights are 1/3, against the task's.
  const auto empty = device->begin("");
  REQUIRE(empty);
  const auto task = match::cosine_softmax{0.2F};
  std::vector<float> mean(3);
  for (const auto& one : user_samples) {
    std::vector<float> raw(length), f(length);
    session s(device->base().weights);
    const auto ids = engine::encode_prompt(tokenizer::byte_tokenizer{}, one.prompt);
    match::embed<match::error_pooling>(s, ids, ids.size(), raw);
    match::index_space{pool->info().centre, {}}.place(raw, length / 3, f);
    const auto w = task.weights(pool->index(), {f.data(), 1, length});
    for (std::size_t k = 0; k < 3; ++k) mean[k] += w[k] / 3;
  }
  double expected = 0;
  for (const float w : mean) expected -= std::log(double{w}) / 3;
  CHECK(empty->scope_distance == Approx(expected).epsilon(1e-4));
}

TEST_CASE("errors of the model are projected into the pool's space", "[engine]") {
  struct by_errors : tiny_config {
    using embedding = crayon::match::error_pooling;
  };
  auto device = device_engine<by_errors>::make(test::tiny_weights(1), {});
  REQUIRE(device);
  const auto& weights = device->base().weights;
  const std::size_t dim = weights.config().dim, width = 5;
  rng random(8);
  match::index_space space;
  for (std::size_t j = 0; j < 3 * dim; ++j) space.centre.push_back(0.1F * random.normal());
  for (std::size_t j = 0; j < width * 3 * dim; ++j) space.projection.push_back(random.normal());
  std::vector<float> index(3 * width);
  std::vector<adapter::lora_adapter<float>> adapters;
  for (std::size_t k = 0; k < 3; ++k) {
    adapters.push_back(test::tiny_adapter(weights.config(), 50 + k));
    index[k * width + k] = 1;
  }
  const auto pool =
      adapter::pool<float>::build(adapters, {index.data(), 3, width}, info([&](auto& i) {
                                    i.tau = 0.2F;
                                    i.embedding = "error_pooling";
                                    i.centre = space.centre;
                                    i.projection = space.projection;
                                  }));
  REQUIRE(pool);
  const auto made = device->customize(*pool, user_samples);
  REQUIRE(made);

  session s(weights);
  std::vector<float> rows(user_samples.size() * width), raw(3 * dim);
  for (std::size_t i = 0; i < user_samples.size(); ++i) {
    const auto ids = engine::encode_sample(tokenizer::byte_tokenizer{}, user_samples[i]);
    match::embed<match::error_pooling>(s, ids.ids, ids.prompt_tokens, raw);
    space.place(raw, std::span(rows).subspan(i * width, width));
  }
  const auto expected =
      match::cosine_softmax{0.2F}.weights(pool->index(), {rows.data(), user_samples.size(), width});
  for (std::size_t k = 0; k < 3; ++k) CHECK(made->weights[k] == Approx(expected[k]));
  CHECK(device->begin("9+9=")->scope_distance > 0);

  const auto other = test::tiny_pool(weights);  // of mean_pooling: no projection, 2 dim
  CHECK(device->customize(other, user_samples).error().text ==
        "the pool's index vectors are for embeddings of length 32, this engine's embeddings 48");
}

TEST_CASE("every blend policy and distance fits the engine", "[engine]") {
  struct kept_apart : tiny_config {
    using blend = crayon::blend::activations;
    using scope_distance = engine::sample_distance;
  };
  struct factor_wise : tiny_config {
    using blend = crayon::blend::linear<>;
    using scope_distance = engine::no_distance;
    using sampler = model::greedy;
  };
  auto exact = tiny();
  auto apart = device_engine<kept_apart>::make(test::tiny_weights(1), {});
  auto linear = device_engine<factor_wise>::make(test::tiny_weights(1), {});
  REQUIRE(apart);
  REQUIRE(linear);
  const auto pool = test::tiny_pool(exact.base().weights);
  REQUIRE(exact.customize(pool, user_samples));
  REQUIRE(apart->customize(pool, user_samples));
  REQUIRE(linear->customize(pool, user_samples));
  const auto by_concat = exact.answer("5+5=", {.max_tokens = 12});
  const auto by_sum = apart->answer("5+5=", {.max_tokens = 12});
  CHECK(by_concat->text == by_sum->text);
  CHECK(by_sum->seen.scope_distance > 0);
  CHECK(apart->answer(user_samples[0].prompt)->seen.scope_distance == Approx(0).margin(1e-6));
  CHECK(linear->answer("5+5=", {.max_tokens = 12})->text != by_concat->text);
  CHECK(std::isnan(linear->begin("5+5=")->scope_distance));
  CHECK(linear->blended()->shape(0).rank == 2);
  CHECK(exact.blended()->shape(0).rank == 6);
}

TEST_CASE("an adapter or weights made elsewhere", "[engine]") {
  auto device = tiny();
  const auto& weights = device.base().weights;
  const auto pool = test::tiny_pool(weights);
  REQUIRE(device.use(pool.extract(1)));
  const auto by_adapter = device.answer("x", {.max_tokens = 16});
  const std::vector<weighted_slot> only{{1, 1.0F}};
  REQUIRE(device.use(pool, only));
  CHECK(device.answer("x", {.max_tokens = 16})->text == by_adapter->text);

  auto config = weights.config();
  config.dim = 20;
  const auto wrong = device.use(test::tiny_adapter(config, 1));
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().text.find("model.layers.0.self_attn.q_proj") != std::string::npos);
  CHECK(device.answer("x", {.max_tokens = 16})->text == by_adapter->text);  // still in use
}

TEST_CASE("stop texts, limits and callers end an answer", "[engine]") {
  auto device = tiny();
  const std::string whole = device.answer("q", {.max_tokens = 30})->text;
  REQUIRE(whole.size() > 12);
  const std::string stop = whole.substr(5, 3);
  const std::size_t at = whole.find(stop);
  const auto stopped = device.answer("q", {.max_tokens = 30, .stop = {"never said", stop}});
  CHECK(stopped->text == whole.substr(0, at));
  CHECK(stopped->finished == finish_reason::stop);
  CHECK(device.answer("q", {.max_tokens = 4})->tokens == 4);

  int pieces = 0;
  const auto cancelled =
      device.answer("q", {.max_tokens = 30}, [&](std::string_view) { return ++pieces < 2; });
  CHECK(cancelled->finished == finish_reason::cancelled);
  CHECK(pieces == 2);
  CHECK(whole.starts_with(cancelled->text));

  auto narrow = tiny(10);
  CHECK(narrow.answer("12345", {.max_tokens = 99})->tokens <= 5);
  const auto too_long = narrow.answer("1234567890");
  REQUIRE_FALSE(too_long);
  CHECK(too_long.error().text.find("10") != std::string::npos);
}

TEST_CASE("sampling follows temperature and seed", "[engine]") {
  auto device = tiny();
  const generation_options warm{.max_tokens = 30, .temperature = 1.5F, .seed = 4};
  generation_options other = warm;
  other.seed = 5;
  const std::string first = device.answer("q", warm)->text;
  CHECK(first == device.answer("q", warm)->text);
  CHECK(first != device.answer("q", other)->text);
}

TEST_CASE("what a pool was made for is checked, and overridden by name", "[engine]") {
  auto device = tiny();
  const auto& weights = device.base().weights;
  const auto refused = [&](adapter::pool_info info, std::string_view part,
                           engine::pool_overrides overrides) {
    const auto pool = test::tiny_pool(weights, std::move(info));
    const auto made = device.customize(pool, user_samples);
    REQUIRE_FALSE(made);
    CHECK(made.error().code == errc::mismatch);
    CHECK(made.error().text.find(part) != std::string::npos);
    CHECK(device.customize(pool, user_samples, overrides));
    device.use_base();
  };
  refused(info([](auto& i) { i.base_hash = "0123456789abcdef"; }), "0123456789abcdef",
          {.base_model = true});
  refused(info([](auto& i) { i.embedding = "last_token"; }), "last_token", {.embedding = true});
  refused(info([](auto& i) { i.matcher = "arrow"; }), "arrow", {.matcher = true});
  refused(info([](auto& i) { i.blend = "linear"; }), "linear", {.blend = true});
  CHECK(device.customize(test::tiny_pool(weights, info([](auto& i) { i.blend = "activations"; })),
                         user_samples));

  CHECK(device.customize(test::tiny_pool(weights), {}).error().text.find("no samples") !=
        std::string::npos);
  const std::vector<sample> long_one{{"a", "b"}, {std::string(100, 'x'), "y"}};
  const auto too_long = device.customize(test::tiny_pool(weights), long_one);
  REQUIRE_FALSE(too_long);
  CHECK(too_long.error().text.find("sample 1: ") == 0);
  CHECK_FALSE(
      device.customize(test::tiny_pool(weights, info([](auto& i) { i.tau = 0; })), user_samples));
}

TEST_CASE("a tokenizer of another model is refused", "[engine]") {
  auto weights = test::tiny_weights(1);
  auto config = weights.config();
  config.vocab = 300;
  const auto made = device_engine<tiny_config>::make(model::llama_weights<float>(config), {});
  REQUIRE_FALSE(made);
  CHECK(made.error().text.find("259") != std::string::npos);
  CHECK(made.error().text.find("300") != std::string::npos);
}

TEST_CASE("forks answer at the same time as one alone", "[engine]") {
  auto device = tiny();
  REQUIRE(device.customize(test::tiny_pool(device.base().weights), user_samples));
  std::vector<std::string> expected;
  for (int i = 0; i < 4; ++i) {
    expected.push_back(device.answer("prompt " + std::to_string(i), {.max_tokens = 30})->text);
  }
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i, own = device.fork()]() mutable {
      for (int round = 0; round < 5; ++round) {
        const auto answer = own.answer("prompt " + std::to_string(i), {.max_tokens = 30});
        right += answer && answer->text == expected[static_cast<std::size_t>(i)];
      }
    });
  }
  device.use_base();  // the forks keep their adapter
  for (auto& t : threads) t.join();
  CHECK(right == 20);
}
