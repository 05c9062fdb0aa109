// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <csignal>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/core/rng.hpp>

using namespace crayon;
using namespace crayon::cli_test;

namespace {

const std::string build =
    "pool build --model model.bin --data samples.jsonl --rank 2 --users 2 --samples 4 --threads 2 ";

nlohmann::json build_report(const workplace& w) {
  return nlohmann::json::parse(read(w / "r.json"));
}

result<adapter::pool<float>> built(const workplace& w, const std::string& name = "p") {
  return adapter::load_pool<float>((w / name).string());
}

}  // namespace

TEST_CASE("pool build: each option is what the file and the report say") {
  const workplace w;
  make_files(w);
  const auto run = [&](const std::string& more) {
    const auto done = w.run(build + "--steps 6 --shared-steps 3 --out p --json r.json " + more);
    INFO(more << "\n" << done.err);
    REQUIRE(done.status == 0);
    return done.out;
  };
  const std::string said = run("--adapters 2");
  CHECK(said.find("2 adapters of rank 2 from 40 samples of 2 tasks, loss ") != std::string::npos);
  CHECK(said.find("next             weight 0.") != std::string::npos);
  auto r = build_report(w);
  CHECK(r["losses"].size() == 6);
  CHECK(r["shared_losses"].size() == 3);
  CHECK(r["loss"] == r["losses"][5]);
  CHECK(r["usage"].size() == 2);
  CHECK(r["usage"][1]["name"] == "twice");
  CHECK(r["usage"][0]["nearest_samples"].get<int>() + r["usage"][1]["nearest_samples"].get<int>() ==
        40);
  CHECK(r["tokens"].get<int>() > 9 * 8 * 8);
  CHECK(r["training_bytes"].get<double>() > 1000);
  CHECK(r["peak_memory_bytes"].get<double>() > r["training_bytes"].get<double>());
  const auto tasks = built(w);
  REQUIRE(tasks);
  CHECK(tasks->info().names == std::vector<std::string>{"next", "twice"});
  CHECK(tasks->info().blend == "concat");

  run("--adapters 2 --init kmeans --start random --weights sample --policy linear --tau 0.2 "
      "--dropout 0.1 --decay 0.1 --recompute --activations bf16");
  const auto clusters = built(w);
  REQUIRE(clusters);
  CHECK(clusters->info().names == std::vector<std::string>{"adapter-0", "adapter-1"});
  CHECK(clusters->info().blend == "linear");
  CHECK(clusters->info().tau == 0.2F);
  CHECK(clusters->info().notes.at("weights in training") == "per_sample");
  CHECK(build_report(w)["shared_losses"].empty());

  run("--adapters 3 --init kmeans --weights whole-group");
  const auto still = built(w);
  CHECK(still->info().notes.at("weights in training") == "whole_group");
  run("--adapters 3 --init kmeans --weights whole-group --train-index --index-rate 2 --balance "
      "0.1");
  const auto moved = built(w);
  CHECK(still->index(0)[0] != moved->index(0)[0]);

  run("--adapters 2");
  const auto full = built(w);
  run("--adapters 2 --dtype bf16");
  const auto half = adapter::load_pool<bf16>((w / "p").string());
  REQUIRE(half);
  CHECK(half->a(0).at(0, 1)[0] == from_float<bf16>(full->a(0).at(0, 1)[0]));
  run("--adapters 2 --targets q_proj,down_proj");
  const auto some = built(w);
  REQUIRE(some);
  REQUIRE(some->sites() % 2 == 0);
  for (std::size_t i = 0; i < some->sites(); ++i) {
    CHECK(some->module(i).ends_with(i % 2 == 0 ? ".q_proj" : ".down_proj"));
  }
  const auto twice = w.run(build + "--adapters 2 --out q --targets q_proj,q_proj");
  CHECK(twice.status == 1);
  CHECK(twice.err.find("self_attn.q_proj") != std::string::npos);

  run("--adapters 2 --independent");
  CHECK(build_report(w)["losses"].size() == 12);
  fs::remove(w / "p");
  run("--single");
  const auto one = adapter::load_peft<float>((w / "p").string());
  REQUIRE(one);
  CHECK(one->adapter.shape(0).rank == 2);

  const auto refused = w.run(build + "--adapters 3 --init tasks --out q");
  CHECK(refused.status == 1);
  CHECK(refused.err == "crayon: samples.jsonl: one adapter per task: 2 tasks for 3 adapters\n");
  for (const std::string wrong :
       {"--balance 1", "--train-index --independent", "--single --independent",
        "--mix 1,2 --independent", "--mix 1,2 --single", "--start here", "--weights mine",
        "--checkpoint-every 5", "--dropout 1", "--threads 0", "--rate nan", "--targets lm_head"}) {
    INFO(wrong);
    CHECK(w.run(build + "--adapters 2 --out q " + wrong).status == 2);
  }
}

TEST_CASE("pool build: users of groups and mixes, and how the rate falls") {
  const workplace w;
  make_files(w);
  std::string grouped;
  std::ifstream all(w / "samples.jsonl");
  std::size_t number = 0;
  for (std::string line; std::getline(all, line); ++number) {
    line.pop_back();
    grouped += line + (number % 4 < 2 ? R"(, "group": "a"})" : R"(, "group": "b"})") + "\n";
  }
  write(w / "grouped.jsonl", grouped);
  const auto losses = [&](const std::string& data, const std::string& more) {
    const auto done = w.run("pool build --model model.bin --data " + data +
                            " --rank 2 --users 2 --samples 4 --threads 2 --steps 4 --adapters 2 "
                            "--shared-steps 1 --warm-up 0 --out p --json r.json " +
                            more);
    INFO(done.err);
    REQUIRE(done.status == 0);
    return build_report(w)["losses"].get<std::vector<double>>();
  };
  const auto plain = losses("samples.jsonl", "");
  CHECK(build_report(w)["groups"] == 1);
  CHECK(losses("samples.jsonl", "--mix 1,3") == plain);
  CHECK(losses("samples.jsonl", "--mix 4,4") != plain);
  CHECK(losses("grouped.jsonl", "") != plain);
  CHECK(build_report(w)["groups"] == 2);
  for (const std::string how :
       {"--schedule linear", "--floor 0.5", "--clip 0.01", "--accumulate 2"}) {
    INFO(how);
    CHECK(losses("samples.jsonl", how) != plain);
  }
  losses("samples.jsonl", "--embedding last_token --layer 1");
  CHECK(built(w)->info().embedding == "last_token");
  CHECK(built(w)->info().layer == 1);
  CHECK(losses("samples.jsonl", "--schedule constant") == losses("samples.jsonl", "--floor 1"));
  for (const std::string wrong : {"--mix 0,2", "--mix 3,2", "--mix 3", "--schedule cubic",
                                  "--clip -1", "--accumulate 0", "--floor 2"}) {
    INFO(wrong);
    CHECK(w.run(build + "--out no " + wrong).status == 2);
  }
}

TEST_CASE("pool build --add: one more adapter, and the others' bytes are theirs") {
  const workplace w;
  make_files(w);
  REQUIRE(w.run(build + "--adapters 2 --steps 6 --out p").status == 0);
  std::string third;
  for (char c = 'a'; c < 'm'; ++c) {
    third += R"({"prompt": "after )" + std::string(1, c) + R"(", "completion": ")" +
             std::string(1, static_cast<char>(c + 1)) + "\"}\n";
  }
  write(w / "third.jsonl", third);
  const std::string add =
      "pool build --model model.bin --data third.jsonl --threads 2 --users 2 --samples 4 "
      "--steps 12 --checkpoint c --add ";
  const std::string before = read(w / "p");
  const auto done = w.run(add + "p --out q --json r.json");
  INFO(done.err);
  REQUIRE(done.status == 0);
  CHECK(done.out.find("adapter third beside 2 others from 12 samples") != std::string::npos);
  CHECK(build_report(w)["adapters"] == 3);
  CHECK(build_report(w)["usage"][2]["name"] == "third");
  CHECK((read(w / "p") == before));
  const auto old = built(w), longer = built(w, "q");
  REQUIRE(old);
  REQUIRE(longer);
  CHECK(longer->info().names == std::vector<std::string>{"next", "twice", "third"});
  for (std::size_t k = 0; k < 2; ++k) {
    CHECK(std::equal(old->index(k).begin(), old->index(k).end(), longer->index(k).begin()));
    const auto was = old->extract(k), is = longer->extract(k);
    for (std::size_t i = 0; i < was.size(); ++i) {
      const auto a = was.factors(i), b = is.factors(i);
      CHECK(std::equal(a.a.data, a.a.data + a.a.size(), b.a.data));
      CHECK(std::equal(a.b.data, a.b.data + a.b.size(), b.b.data));
    }
  }
  // Users of one task have the new adapter's alone; of no other number than that are batches full.
  const auto tokens = [&](const std::string& mix) {
    const std::string fresh = add.substr(0, add.find("--checkpoint")) + "--add ";
    REQUIRE(w.run(fresh + "p --out m --mix " + mix + " --json r.json").status == 0);
    return build_report(w)["tokens"].get<std::size_t>();
  };
  CHECK(tokens("1,1") > tokens("4,4"));

  // In its place, from the checkpoint: the same file; and not twice.
  REQUIRE(w.run(add + "p --out p").status == 0);
  CHECK((read(w / "p") == read(w / "q")));
  const auto twice = w.run(add + "p --out p");
  CHECK(twice.status == 1);
  CHECK(twice.err == "crayon: p: has an adapter third already\n");
  for (const std::string wrong :
       {"--adapters 3", "--rank 2", "--train-index", "--single", "--mix 0,1"}) {
    CHECK(w.run(add + "p --out q " + wrong).status == 2);
  }
  CHECK(w.run(build + "--out q --name x").status == 2);
  REQUIRE(w.run("pool import --model model.bin --adapter adapter --out arrow").status == 0);
  CHECK(w.run(add + "arrow --out q").err ==
        "crayon: arrow: an adapter is added to pools with one index vector each and the matcher "
        "cosine_softmax or top_k; this one has 1 and arrow\n");
}

TEST_CASE("pool build that is killed at any moment and started again ends with the same bits") {
  const workplace w;
  make_files(w);
  const std::string command = build + "--adapters 2 --steps 150 --shared-steps 40 --train-index ";
  const auto begun = std::chrono::steady_clock::now();
  REQUIRE(w.run(command + "--out whole").status == 0);
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begun);
  const std::string resumable = command + "--checkpoint c --checkpoint-every 3 --out p";
  rng random(5);
  std::size_t killed = 0;
  for (std::size_t start = 0; start < 40 && !fs::exists(w / "p"); ++start) {
    // The shell becomes the program: its id is the program's.
    const std::string line = "cd '" + w.files().string() + "' && { exec '" CRAYON_PROGRAM "' " +
                             resumable + " > o 2> e < /dev/null & } ; echo $! > id";
    REQUIRE(std::system(line.c_str()) == 0);
    const int id = std::stoi(read(w / "id"));
    std::this_thread::sleep_for(whole * (10 + random.below(20)) / 100);
    if (fs::exists(w / "p")) break;
    ::kill(id, SIGKILL);
    ++killed;
    for (int i = 0; i < 500 && fs::exists("/proc/" + std::to_string(id) + "/exe"); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  CHECK(killed > 2);
  const auto last = w.run(resumable + " --json r.json");
  INFO(last.err);
  REQUIRE(last.status == 0);
  CHECK(build_report(w)["losses"].size() == 150);
  CHECK((read(w / "p") == read(w / "whole")));

  // Another command does not go on from there, and says why.
  const auto other = w.run(command + "--seed 2 --checkpoint c --out q");
  CHECK(other.status == 1);
  CHECK(other.err == "crayon: c: the checkpoint is of a run with seed 1, this run has 2\n");
}
