// SPDX-License-Identifier: MIT
#include <crayon/train/extend_pool.hpp>

#include <unistd.h>

#include <cmath>
#include <filesystem>

#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/tokenizer/byte_tokenizer.hpp>
#include <crayon/train/initialise.hpp>

#include "../catch.hpp"
#include "byte_llama.hpp"

using namespace crayon;

namespace {

using extend_backend = simd::highway_dynamic;

std::vector<tokenizer::encoded_sample> letters(const std::string& prompt, int shift) {
  std::vector<tokenizer::encoded_sample> made;
  for (char letter = 'a'; letter < 'i'; ++letter) {
    made.push_back(tokenizer::encode_sample(
        tokenizer::byte_tokenizer{}, {prompt + letter, {static_cast<char>(letter + shift)}}));
  }
  return made;
}

/// A pool of two adapters and what a third is for.
struct extend_setting {
  model::llama_weights<float> weights;
  std::vector<tokenizer::encoded_sample> more = letters("THIRD ", 4);
  train::pool_options options;
  thread_pool threads{2};
  adapter::pool<float> pool;

  explicit extend_setting(bool by_factors = false) {
    const auto c = crayon_test::byte_llama();
    rng random(1);
    weights = train::initial_weights(c, random, 0.2F);
    options.adapters = 2;
    options.rank = 2;
    options.steps = 10;
    options.users = 2;
    options.samples = 3;
    options.by_factors = by_factors;
    options.training.schedule.warm_up = 3;
    options.training.optimizer.decay = 0.1F;
    auto texts = letters("next ", 1);
    const auto other = letters("two more ", 2);
    texts.insert(texts.end(), other.begin(), other.end());
    std::vector<std::string> tasks(8, "next");
    tasks.resize(16, "two");
    auto made = train::build_pool<extend_backend>(
        weights, std::span<const tokenizer::encoded_sample>(texts),
        std::span<const std::string>(tasks), options, threads);
    REQUIRE(made);
    pool = std::move(made->pool);
  }

  [[nodiscard]] result<train::built_pool> extend(
      train::stage_progress progress = train::nobody_looks) {
    return train::extend_pool<extend_backend>(weights, pool, "third",
                                              std::span<const tokenizer::encoded_sample>(more),
                                              options, threads, progress);
  }
};

bool same_adapter(const adapter::lora_adapter<float>& a, const adapter::lora_adapter<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto x = a.factors(i), y = b.factors(i);
    if (!std::equal(x.a.data, x.a.data + x.a.size(), y.a.data)) return false;
    if (!std::equal(x.b.data, x.b.data + x.b.size(), y.b.data)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a pool gets one more adapter, the others keep every bit", "[train]") {
  for (const bool by_factors : {false, true}) {
    extend_setting s(by_factors);
    s.options.steps = 60;
    for (const auto start : {train::pool_start::copies, train::pool_start::random}) {
      s.options.start = start;
      const auto made = s.extend();
      REQUIRE(made);
      REQUIRE(made->pool.size() == 3);
      CHECK(made->pool.info().names == std::vector<std::string>{"next", "two", "third"});
      CHECK(made->pool.info().blend == s.pool.info().blend);
      for (std::size_t k = 0; k < 2; ++k) {
        CHECK(same_adapter(made->pool.extract(k), s.pool.extract(k)));
        CHECK(std::equal(s.pool.index(k).begin(), s.pool.index(k).end(),
                         made->pool.index(k).begin()));
        CHECK(!same_adapter(made->pool.extract(2), s.pool.extract(k)));
      }
      double squares = 0;
      for (const float x : made->pool.index(2)) squares += double{x} * double{x};
      CHECK(squares == Approx(1));
      CHECK(made->report.losses.back() < 0.8 * made->report.losses.front());
      CHECK(made->report.usage.mean.size() == 3);
    }
  }
}

TEST_CASE("the gradient of the one that learns is its part of the whole", "[train]") {
  extend_setting s;
  std::vector<adapter::lora_adapter<float>> all{s.pool.extract(0), s.pool.extract(1)};
  const auto factors = train::lora_factors::from(s.weights.config(), all);
  REQUIRE(factors);
  train::packed_batch batch;
  for (const auto& one : s.more) batch.add(one.ids, one.prompt_tokens);
  const std::vector<float> even(2 * batch.sequences(), 0.5F);
  const matrix_view<const float> w(even.data(), batch.sequences(), 2);
  const auto gradient_of = [&](auto prepare) {
    train::batch_gradient<extend_backend> gradient(s.weights, &*factors, train::trainable::factors,
                                                   {}, 2);
    prepare(gradient);
    gradient.compute(batch, w, s.threads);
    const auto values = gradient.factors();
    return std::pair(std::vector<float>(values.begin(), values.end()), gradient.norm());
  };
  const auto runs = factors->runs_of(1);
  const auto whole = gradient_of([](auto&) {}).first;
  const auto [part, norm] = gradient_of([&](auto& gradient) { gradient.learn_only(runs); });
  std::vector<float> expected(whole.size());
  double squares = 0;
  for (const auto& run : runs) {
    for (std::size_t i = run.offset; i < run.offset + run.count; ++i) {
      expected[i] = whole[i];
      squares += double{whole[i]} * double{whole[i]};
    }
  }
  CHECK(part == expected);
  CHECK(norm == Approx(std::sqrt(squares)));
}

TEST_CASE("users of an addition have as many tasks as the mix says, the first its own", "[train]") {
  extend_setting s;
  const std::size_t width = s.pool.index().cols;
  std::vector<float> rows(s.pool.index().data, s.pool.index().data + 2 * width);
  rows.insert(rows.end(), rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(width));
  const matrix_view<const float> index(rows.data(), 3, width);
  const std::vector<float> place(s.more.size() * width, 0.25F);
  const matrix_view<const float> places(place.data(), s.more.size(), width);
  s.options.users = 50;
  s.options.samples = 6;
  const auto sequences = [&](train::user_mix mix) {
    s.options.mix = mix;
    train::detail::addition_users users(s.more, places, index, match::top_k{0.1F, 0}, s.options);
    train::packed_batch batch;
    std::vector<float> weights;
    std::vector<std::size_t> drawn;
    rng random(3);
    users.draw(batch, weights, drawn, random);
    CHECK(weights.size() == 3 * batch.sequences());
    CHECK(drawn.size() == batch.sequences());
    return batch.sequences();
  };
  CHECK(sequences({1, 1}) == 50 * 6);
  const std::size_t six = sequences({6, 6});  // one in six, and where another task is its own, too
  CHECK(six > 50);
  CHECK(six < 50 * 4);
  const std::size_t usual = sequences({});
  CHECK(usual > six);
  CHECK(usual < 50 * 6);
  CHECK(sequences({9, 9}) > 50);  // more tasks than samples
}

TEST_CASE("an addition goes on from its checkpoint; what does not fit is refused", "[train]") {
  extend_setting s;
  const auto whole = s.extend();
  REQUIRE(whole);
  const auto file =
      std::filesystem::temp_directory_path() / ("crayon-extend-" + std::to_string(::getpid()));
  std::filesystem::remove(file);
  s.options.checkpoint = {file.string(), 2, 0};
  std::size_t left = 6;
  const auto stopped = s.extend(
      [&](std::string_view, const train::training_progress&, std::size_t) { return --left > 0; });
  REQUIRE(!stopped);
  CHECK(stopped.error().code == errc::cancelled);
  const auto resumed = s.extend();
  REQUIRE(resumed);
  CHECK(resumed->report.resumed > 0);
  CHECK(same_adapter(resumed->pool.extract(2), whole->pool.extract(2)));
  const auto again = s.extend();
  REQUIRE(again);
  CHECK(same_adapter(again->pool.extract(2), whole->pool.extract(2)));

  const auto refused = [&](const std::string& text) {
    const auto made = s.extend();
    REQUIRE(!made);
    INFO(made.error().text);
    CHECK(made.error().text.find(text) != std::string::npos);
  };
  const auto before = s.pool;
  s.pool.a(0).at(0, 0)[0] += 1;
  refused("the checkpoint is of a run with pool ");
  s.pool = before;
  std::filesystem::remove(file);
  s.options.checkpoint = {};
  s.options.train_index = true;
  refused("the index vectors of a finished pool do not learn");
  s.options.train_index = false;
  s.options.steps = 0;
  refused("must not be 0");
  s.options.steps = 2;
  s.options.memory = 1000;
  refused("adapters (3) and batches");
  s.options.memory = 0;
  auto third = s.extend();
  REQUIRE(third);
  std::swap(s.pool, third->pool);
  refused("the pool has an adapter third already");
  s.pool = before;
  s.weights.norms()[0] += 1;
  refused("the pool was made for the base model ");
}
