// SPDX-License-Identifier: MIT
#include <crayon/train/checkpoint.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>

#include <crayon/core/executor.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/initialise.hpp>
#include <crayon/train/joint_pool.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

using namespace crayon;

namespace {

namespace fs = std::filesystem;
constexpr std::size_t resumed_steps = 24;

struct resumed_run {
  result<train::training_report> report;
  std::vector<float> values;  // all factors and index vectors
  std::vector<double> losses;
};

/// Joint training with index vectors from a checkpoint; stops after `stop` steps of its own.
resumed_run train_some(const std::string& file, std::size_t every, std::size_t stop,
                       std::size_t poisoned = resumed_steps) {
  rng start(1), random(2);
  auto weights = train::initial_weights(test::tiny_model, start, 0.15F);
  constexpr std::array sites{model::projection::q, model::projection::down};
  std::vector pool(
      2, train::initial_adapter(train::lora_shapes(test::tiny_model, 2, 2, sites), start));
  std::vector<float> index{0.8F, 0.6F, 0.6F, 0.8F};
  train::training_options<> options;
  options.steps = resumed_steps;
  options.schedule = {.peak = 2e-2F, .warm_up = 5};
  options.spread.shards = 2;
  auto saved = train::checkpoint::open({file, every, 0}, {{"seed", "2"}, {"steps", "24"}});
  REQUIRE(saved);
  serial_executor serial;
  std::size_t done = 0;
  auto report = train::joint_pool<simd::highway_dynamic>(
      weights, std::span(pool),
      train::trained_index{matrix_view<float>(index.data(), 2, 2), 1, 0.1F},
      match::cosine_softmax{0.3F}, train::leave_one_out{}, options,
      [&](std::size_t step, train::grouped_batch& batch) {
        if (step == poisoned) weights.norms()[0] = NAN;
        for (int group = 0; group < 2; ++group) {
          batch.begin_group();
          for (int i = 0; i < 3; ++i) {
            std::vector<std::int32_t> ids;
            for (int t = 0; t < 4; ++t) {
              ids.push_back(static_cast<std::int32_t>(random.below(test::tiny_model.vocab)));
            }
            const float x = random.uniform();
            batch.add(ids, 1, std::array{x, std::sqrt(1 - x * x)});
          }
        }
      },
      serial, [&](const train::training_progress&) { return ++done < stop; },
      saved->hooks("pool", random));
  resumed_run run{std::move(report), index, saved->losses("pool")};
  for (const auto& a : pool) {
    for (std::size_t s = 0; s < a.size(); ++s) {
      const auto f = a.factors(s);
      run.values.insert(run.values.end(), f.a.data, f.a.data + f.a.size());
      run.values.insert(run.values.end(), f.b.data, f.b.data + f.b.size());
    }
  }
  return run;
}

struct checkpoint_folder {
  fs::path path = fs::temp_directory_path() / ("crayon-checkpoint-" + std::to_string(::getpid()));
  checkpoint_folder() {
    fs::remove_all(path);
    fs::create_directory(path);
  }
  ~checkpoint_folder() { fs::remove_all(path); }
  [[nodiscard]] std::string operator/(const char* name) const { return (path / name).string(); }
};

std::string bytes_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("a run that is interrupted anywhere ends bit by bit as one that is not", "[train]") {
  const checkpoint_folder folder;
  const auto whole = train_some("", 1, resumed_steps);
  REQUIRE(whole.report);
  CHECK(whole.losses.size() == resumed_steps);
  rng random(11);
  for (int trial = 0; trial < 4; ++trial) {
    const std::string file = folder / ("c" + std::to_string(trial)).c_str();
    const std::size_t every = 1 + random.below(4);
    resumed_run last{train::training_report{}, {}, {}};
    std::size_t starts = 0;
    do {
      last = train_some(file, every, every + 1 + random.below(6));
      REQUIRE(last.report);
      REQUIRE(++starts < 40);
    } while (last.report->steps < resumed_steps);
    INFO("every " << every << " steps, " << starts << " starts");
    CHECK(starts > 1);
    CHECK((last.values == whole.values));
    CHECK((last.losses == whole.losses));
  }
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 4);  // nothing else is left
}

TEST_CASE("a checkpoint of another run, or an altered one, is refused", "[train]") {
  const checkpoint_folder folder;
  const std::string file = folder / "c";
  REQUIRE(train_some(file, 3, 8).report);
  const auto refused = [&](train::checkpoint::identity run) {
    const auto opened = train::checkpoint::open({file, 3, 0}, std::move(run));
    REQUIRE(!opened);
    return opened.error();
  };
  const train::checkpoint::identity same{{"seed", "2"}, {"steps", "24"}};
  REQUIRE(train::checkpoint::open({file, 3, 0}, same));
  CHECK(train::checkpoint::open({file, 3, 0}, same)->step_of("pool") == 6);
  auto other = same;
  other["steps"] = "600";
  CHECK(refused(other).code == errc::mismatch);
  CHECK(refused(other).text ==
        file + ": the checkpoint is of a run with steps 24, this run has 600");
  other = same;
  other["rank"] = "4";
  CHECK(refused(other).text ==
        file + ": the checkpoint is of a run with rank none, this run has 4");
  CHECK(refused({{"seed", "2"}}).text ==
        file + ": the checkpoint is of a run with steps 24, this run has none");
  std::string bytes = bytes_of_file(file);
  bytes[bytes.size() - 9] = static_cast<char>(bytes[bytes.size() - 9] ^ 1);
  std::ofstream(file, std::ios::binary) << bytes;
  CHECK(refused(same).text.find("checksum") != std::string::npos);
  std::ofstream(file, std::ios::binary) << "nothing";
  CHECK(refused(same).text.find(file) != std::string::npos);
}

TEST_CASE("results of finished stages stay in the file", "[train]") {
  const checkpoint_folder folder;
  const std::string file = folder / "c";
  {
    auto saved = train::checkpoint::open({file, 1, 0}, {});
    REQUIRE(saved);
    CHECK(!saved->finished("first"));
    saved->finish("first", std::vector<float>{1, 2, 3});
    CHECK(saved->finished("first"));
    CHECK(!saved->kept());  // nobody knows yet whether these are good
    CHECK(!train::checkpoint::open({file, 1, 0}, {})->finished("first"));
    REQUIRE(saved->end());
    CHECK(saved->kept());
  }
  const auto again = train::checkpoint::open({file, 1, 0}, {});
  REQUIRE(again);
  REQUIRE(again->finished("first"));
  CHECK(again->kept());
  CHECK(again->values("first").size() == 3);
  CHECK(again->values("first")[2] == 3);
}

TEST_CASE("a loss that is not a number names step and batch and leaves the checkpoint", "[train]") {
  const checkpoint_folder folder;
  const std::string file = folder / "c";
  const auto failed = train_some(file, 1, resumed_steps, 9);
  REQUIRE(!failed.report);
  CHECK(failed.report.error().code == errc::bad_value);
  CHECK(failed.report.error().text.starts_with(
      "training step 9 (batch of 6 sequences, 18 rows): loss is "));
  const auto kept = train::checkpoint::open({file, 1, 0}, {{"seed", "2"}, {"steps", "24"}});
  REQUIRE(kept);
  CHECK(kept->step_of("pool") == 8);  // nobody knows yet whether step 8 left good parameters
  const auto whole = train_some("", 1, resumed_steps), resumed = train_some(file, 1, resumed_steps);
  REQUIRE(resumed.report);
  CHECK((resumed.values == whole.values));
}
