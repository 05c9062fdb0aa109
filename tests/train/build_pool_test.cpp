// SPDX-License-Identifier: MIT
#include <crayon/train/build_pool.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/tokenizer/byte_tokenizer.hpp>
#include <crayon/train/initialise.hpp>

#include "../catch.hpp"
#include "byte_llama.hpp"

using namespace crayon;

namespace {

namespace fs = std::filesystem;
using build_backend = simd::highway_dynamic;

struct build_setting {
  fs::path folder = fs::temp_directory_path() / ("crayon-build-" + std::to_string(::getpid()));
  model::llama_weights<float> weights;
  std::vector<io::text_sample> texts;
  train::pool_options options;
  thread_pool threads{2};

  build_setting() {
    fs::remove_all(folder);
    fs::create_directory(folder);
    const auto c = crayon_test::byte_llama();
    rng random(1);
    weights = train::initial_weights(c, random, 0.2F);
    for (int i = 0; i < 24; ++i) {
      const char letter = static_cast<char>('a' + i % 6);
      texts.push_back(
          i % 2 == 0 ? io::text_sample{std::string("next ") + letter, {char(letter + 1)}, "next"}
                     : io::text_sample{std::string("TWO ") + letter, {letter, letter}, "two"});
    }
    options.adapters = 2;
    options.rank = 2;
    options.steps = 9;
    options.shared_steps = 4;
    options.users = 2;
    options.samples = 3;
    options.training.schedule.warm_up = 3;
  }
  ~build_setting() { fs::remove_all(folder); }

  [[nodiscard]] result<train::built_pool> build(
      train::stage_progress progress = train::nobody_looks) {
    return train::build_pool<build_backend>(weights, tokenizer::byte_tokenizer{}, texts, options,
                                            threads, progress);
  }
  /// The bytes of the pool's file.
  [[nodiscard]] std::string saved(const train::built_pool& made) const {
    const std::string path = (folder / "pool").string();
    REQUIRE(adapter::save_pool(path, made.pool));
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

}  // namespace

TEST_CASE("a pool from texts: what was asked for is what its file says", "[train]") {
  build_setting s;
  s.options.base_model = "tiny";
  std::vector<std::size_t> embedded;
  const auto look = [&](std::size_t done, std::size_t count) {
    CHECK(count == 24);
    embedded.push_back(done);
  };
  const train::embedding_progress looking(look);
  s.options.embedding = &looking;
  const auto made = s.build();
  REQUIRE(made);
  const auto& info = made->pool.info();
  CHECK(made->pool.size() == 2);
  REQUIRE(embedded.size() == 12);  // of the first of two tasks
  CHECK(std::is_sorted(embedded.begin(), embedded.end()));
  CHECK(embedded.front() == 2);
  CHECK(embedded.back() == 24);
  CHECK(info.names == std::vector<std::string>{"next", "two"});
  CHECK(info.base_hash == s.weights.hash());
  CHECK(info.base_model == "tiny");
  CHECK(info.blend == "concat");
  CHECK(info.matcher == "cosine_softmax");
  CHECK(info.notes.at("weights in training") == "leave_one_out");
  CHECK(made->report.losses.size() == 9);
  CHECK(made->report.shared_losses.size() == 4);
  CHECK(made->report.sizes == std::vector<std::size_t>{12, 12});
  CHECK(made->report.usage.nearest[0] + made->report.usage.nearest[1] == 24);
  CHECK(made->report.usage.mean[0] + made->report.usage.mean[1] == Approx(1));
  CHECK(s.saved(*made) == s.saved(*s.build()));

  s.options.init = train::pool_init::k_means;
  s.options.start = train::pool_start::random;
  s.options.by_factors = true;
  s.options.weights.which = train::chosen_gates::kind::whole_group;
  s.options.adapters = 3;
  const auto other = s.build();
  REQUIRE(other);
  CHECK(other->pool.info().blend == "linear");
  CHECK(other->pool.info().names[2] == "adapter-2");
  CHECK(other->pool.info().notes.at("weights in training") == "whole_group");
  CHECK(other->report.shared_losses.empty());
  for (const std::size_t size : other->report.sizes) CHECK(size > 0);
  const auto fixed = std::vector<float>(other->pool.index(0).begin(), other->pool.index(0).end());
  s.options.train_index = true;
  s.options.balance = 0.1F;
  const auto moved = s.build();
  REQUIRE(moved);
  CHECK(!std::equal(fixed.begin(), fixed.end(), moved->pool.index(0).begin()));
}

TEST_CASE("adapters that train alone, and one on all samples", "[train]") {
  build_setting s;
  s.options.independent = true;
  const auto pool = s.build();
  REQUIRE(pool);
  CHECK(pool->report.losses.size() == 18);
  CHECK(pool->pool.info().notes.at("weights in training") == "none: each adapter alone");
  const auto first = pool->pool.extract(0), second = pool->pool.extract(1);
  const auto b = first.factors(0).b, c = second.factors(0).b;
  CHECK(!std::equal(b.data, b.data + b.size(), c.data));

  const auto encoded = train::encode_texts(
      tokenizer::byte_tokenizer{}, std::span<const io::text_sample>(s.texts), s.weights.config());
  REQUIRE(encoded);
  const auto one =
      train::build_single<build_backend>(s.weights, std::span(*encoded), s.options, s.threads);
  REQUIRE(one);
  CHECK(one->adapter.shape(0).rank == 2);
  CHECK(one->report.losses.size() == 9);
  CHECK(one->report.losses.back() < one->report.losses.front());
}

TEST_CASE("a pool on a frozen base in bf16 is that on its values in f32", "[train]") {
  build_setting s;
  model::llama_weights<bf16> half(s.weights.config());
  for (std::size_t i = 0; i < half.matrices().size(); ++i) {
    half.matrices()[i] = from_float<bf16>(s.weights.matrices()[i]);
    s.weights.matrices()[i] = to_float(half.matrices()[i]);
  }
  std::copy(s.weights.norms().begin(), s.weights.norms().end(), half.norms().begin());
  s.options.train_index = true;
  const auto on = [&](const auto& weights) {
    return train::build_pool<build_backend>(weights, tokenizer::byte_tokenizer{}, s.texts,
                                            s.options, s.threads);
  };
  const auto wide = on(s.weights);
  s.options.checkpoint.file = (s.folder / "half").string();
  const auto made = on(half);
  REQUIRE(wide);
  REQUIRE(made);
  CHECK(made->pool.info().base_hash == s.weights.hash());  // so that either storage can use it
  CHECK(made->report.losses.front() > made->report.losses.back());
  for (std::size_t i = 0; i < made->report.losses.size(); ++i) {
    CHECK(made->report.losses[i] == Approx(wide->report.losses[i]).epsilon(1e-4));
  }
  CHECK(made->report.bytes > 0);
  CHECK(made->report.rows > 9 * 6 * 5);

  const auto other = on(s.weights);
  REQUIRE(!other);
  CHECK(other.error().text.ends_with(
      "the checkpoint is of a run with base type bf16, this run has f32"));
}

TEST_CASE("one adapter of one text, and more adapters than there are different texts", "[train]") {
  build_setting s;
  const std::vector<io::text_sample> equal(6, {"next a", "b", ""});
  for (const std::size_t adapters : {1U, 3U}) {
    for (const std::size_t texts : {std::size_t{adapters}, std::size_t{6}}) {
      for (const bool independent : {false, true}) {
        INFO(adapters << " adapters, " << texts << " texts, " << independent);
        s.texts.assign(equal.begin(), equal.begin() + static_cast<std::ptrdiff_t>(texts));
        s.options.adapters = adapters;
        s.options.independent = independent;
        const auto made = s.build();
        REQUIRE(made);
        CHECK(made->pool.size() == adapters);
        for (const std::size_t size : made->report.sizes) CHECK(size >= 1);
        for (const double w : made->report.usage.mean) {
          CHECK(w == Approx(1 / static_cast<double>(adapters)));
        }
      }
    }
  }
  // All of one task, which no clusters of theirs can tell apart.
  for (auto& one : s.texts) one.task = "next";
  s.options.independent = false;
  const auto named = s.build();
  REQUIRE(named);
  CHECK(named->report.tasks == 1);
}

TEST_CASE("users as the caller draws them", "[train]") {
  build_setting s;
  std::size_t drawn = 0;
  const auto first_six = [&](std::size_t count, rng& random) {
    std::vector<std::size_t> of(count);
    for (auto& i : of) i = random.below(6);
    ++drawn;
    return of;
  };
  const train::user_draw draw(first_six);
  s.options.draw = &draw;
  const auto made = s.build();
  REQUIRE(made);
  CHECK(drawn == s.options.users * s.options.steps);
  s.options.draw = nullptr;
  const auto other = s.build();
  REQUIRE(other);
  CHECK(made->report.losses.front() != other->report.losses.front());
}

TEST_CASE("users of one group each, as the texts say", "[train]") {
  build_setting s;
  const auto plain = s.build();
  REQUIRE(plain);
  CHECK(plain->report.groups == 1);
  for (std::size_t i = 0; i < s.texts.size(); ++i) s.texts[i].group = i % 4 < 2 ? "a" : "";
  const auto grouped = s.build();
  REQUIRE(grouped);
  CHECK(grouped->report.groups == 2);
  CHECK(grouped->report.losses.front() != plain->report.losses.front());
  s.options.mix = {2, 4};
  const auto mixed = s.build();
  REQUIRE(mixed);
  CHECK(mixed->report.losses.front() != grouped->report.losses.front());

  const auto refused = [&](const char* text) {
    const auto made = s.build();
    REQUIRE(!made);
    CHECK(made.error().text == text);
  };
  s.options.mix = {3, 2};
  refused("users of 3 to 2 tasks: the least is 1, and not above the most");
  s.options.mix = {};
  const std::vector<std::string> few(3);
  s.options.groups = few;
  refused("3 groups for 24 samples: one each, or none");
}

TEST_CASE("the schedule and the embedded layer are part of a run", "[train]") {
  build_setting s;
  s.options.checkpoint = {(s.folder / "c").string(), 1, 0};
  s.options.layer = 1;
  const auto first = s.build();
  REQUIRE(first);
  CHECK(first->pool.info().layer == 1);
  s.options.training.schedule.which = train::chosen_schedule::kind::linear;
  CHECK(s.build().error().text.ends_with(
      "the checkpoint is of a run with schedule cosine, this run has linear"));
  s.options.training.schedule.which = {};
  s.options.layer = 2;
  CHECK(
      s.build().error().text.ends_with("the checkpoint is of a run with layer 1, this run has 2"));
  s.options.layer = 3;
  CHECK(s.build().error().text == "layer 3, the model has 2");
  s.options.checkpoint = {};
  s.options.layer = 0;
  const auto all = s.build();
  REQUIRE(all);
  // Not the index, which is 1 or -1 in a space of one direction.
  CHECK(all->pool.info().centre.at(0) !=
        Approx(double{first->pool.info().centre.at(0)}).epsilon(1e-3));
}

TEST_CASE("a build that is stopped anywhere ends with the same file", "[train]") {
  build_setting s;
  s.options.train_index = true;
  rng random(3);
  for (const bool independent : {false, true}) {
    s.options.independent = independent;
    s.options.train_index = !independent;
    s.options.checkpoint = {};
    const auto whole = s.build();
    REQUIRE(whole);
    const std::string file = (s.folder / (independent ? "i" : "j")).string();
    s.options.checkpoint = {file, 1 + random.below(3), 0};
    std::size_t starts = 0;
    for (;;) {
      REQUIRE(++starts < 60);
      std::size_t left = s.options.checkpoint.every_steps + 1 + random.below(5);
      const auto made = s.build([&](std::string_view, const train::training_progress&,
                                    std::size_t) { return --left > 0; });
      if (!made) {
        INFO(made.error().text);
        REQUIRE(made.error().code == errc::cancelled);
        continue;
      }
      CHECK(starts > 2);
      CHECK((s.saved(*made) == s.saved(*whole)));
      CHECK((made->report.losses == whole->report.losses));
      break;
    }
    // The next start has nothing left to do.
    std::size_t steps = 0;
    const auto again = s.build([&](std::string_view, const train::training_progress&, std::size_t) {
      ++steps;
      return true;
    });
    REQUIRE(again);
    CHECK(steps == 0);
    CHECK((s.saved(*again) == s.saved(*whole)));
    // Another configuration, other data or another base model is not continued.
    const auto refused = [&](const char* text) {
      const auto other = s.build();
      REQUIRE(!other);
      CHECK(other.error().text == file + ": the checkpoint is of a run with " + text);
    };
    s.options.steps = 10;
    refused("steps 9, this run has 10");
    s.options.steps = 9;
    s.options.tau = 0.25F;
    refused("tau 0.1, this run has 0.25");
    s.options.tau = 0.1F;
    const std::string hash = s.weights.hash();
    s.weights.norms()[0] += 1;
    refused(("base model " + hash + ", this run has " + s.weights.hash()).c_str());
    s.weights.norms()[0] -= 1;
    s.texts[3].completion = "x";
    const auto other = s.build();
    REQUIRE(!other);
    CHECK(other.error().text.find("of a run with data ") != std::string::npos);
    s.texts[3].completion = s.texts[9].completion;
  }
}

TEST_CASE("what cannot be built is refused, and a bad loss names its samples", "[train]") {
  build_setting s;
  const auto refused = [&](const char* text) {
    const auto made = s.build();
    REQUIRE(!made);
    INFO(made.error().text);
    CHECK(made.error().text.find(text) != std::string::npos);
  };
  s.options.balance = 1;
  refused("the balance term moves index vectors");
  s.options.balance = 0;
  s.options.adapters = 25;
  refused("24 samples for 25 adapters");
  s.options.adapters = 3;
  s.options.rank = 99999;
  refused("rank 99999: no matrix of this model has a rank above 16");
  s.options.rank = 2;
  s.options.memory = 50'000;
  refused("adapters (3) and batches (2 x 3 samples) of that size need more than 6.7");
  refused("e-05 GB, there are 5e-05 GB");
  s.options.memory = std::size_t{1} << 34;
  s.options.users = s.options.samples = std::size_t{1} << 20;
  refused("batches (1048576 x 1048576 samples) of that size need more than ");
  s.options.users = 2;
  s.options.samples = 3;
  s.options.adapters = 3;
  s.options.init = train::pool_init::tasks;
  refused("one adapter per task: 2 tasks for 3 adapters");
  s.texts[5].task.clear();
  refused("one adapter per task: there are samples without a task");
  s.options.tau = -1;
  refused("tau is -1");
  s.options.tau = 0.1F;
  s.options.init = train::pool_init::automatic;
  s.texts[0].prompt = std::string(100, 'x');
  refused("sample 1 has 103 tokens, the model's context is 32");
  s.texts[0].prompt = "next a";
  s.options.checkpoint = {(s.folder / "c").string(), 1, 0};
  const auto bad =
      s.build([&](std::string_view stage, const train::training_progress& now, std::size_t) {
        if (stage == "pool" && now.step == 3) s.weights.norms()[0] = NAN;
        return true;
      });
  REQUIRE(!bad);
  INFO(bad.error().text);
  CHECK(bad.error().text.starts_with("pool: training step 4 (batch of 6 sequences, "));
  CHECK(bad.error().text.find("loss is ") != std::string::npos);
  CHECK(bad.error().text.find("; samples ") != std::string::npos);
  CHECK(
      bad.error().text.ends_with("; " + s.options.checkpoint.file + " holds the last good state"));

  // What the first step left was never seen to be good: there is no file, and no word of one.
  s.weights.norms()[0] = 1;
  s.options.checkpoint.file = (s.folder / "early").string();
  const auto early = s.build([&](std::string_view, const train::training_progress&, std::size_t) {
    s.weights.norms()[0] = NAN;
    return true;
  });
  REQUIRE(!early);
  CHECK(early.error().text.starts_with("first adapter: training step 1 ("));
  CHECK(early.error().text.find("holds") == std::string::npos);
  CHECK_FALSE(io::read_text(s.options.checkpoint.file));

  // Nor is what a whole stage left, before the next one has seen it.
  s.weights.norms()[0] = 1;
  const auto whole = s.build();
  REQUIRE(whole);
  s.options.checkpoint.file = (s.folder / "late").string();
  const auto late =
      s.build([&](std::string_view stage, const train::training_progress& now, std::size_t of) {
        if (stage == "first adapter" && now.step + 1 == of) s.weights.norms()[0] = NAN;
        return true;
      });
  REQUIRE(!late);
  CHECK(late.error().text.starts_with("pool: training step 0 ("));
  CHECK(
      late.error().text.ends_with("; " + s.options.checkpoint.file + " holds the last good state"));
  s.weights.norms()[0] = 1;
  std::vector<std::string> stages;
  const auto resumed = s.build([&](std::string_view stage, const train::training_progress&, auto) {
    stages.emplace_back(stage);
    return true;
  });
  REQUIRE(resumed);
  CHECK(stages.front() == "first adapter");  // its last step, which nobody had seen to be good
  CHECK((s.saved(*resumed) == s.saved(*whole)));
}
