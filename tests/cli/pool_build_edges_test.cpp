// SPDX-License-Identifier: MIT
// pool build with what is not the usual case: few and equal texts, sizes that no machine has, a
// loss that is no number, output that cannot be written; and what it shows on the way.
#include "program.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include <nlohmann/json.hpp>

#include <crayon/adapter/pool_file.hpp>

using namespace crayon;
using namespace crayon::cli_test;

namespace {

const std::string small_build =
    "pool build --model model.bin --rank 2 --users 2 --samples 4 --threads 2 ";

std::string equal_texts(int count, int different) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    lines +=
        R"({"prompt": "same )" + std::to_string(i % different) + R"(", "completion": "x"})" + "\n";
  }
  return lines;
}

}  // namespace

TEST_CASE("pool build: one sample, and more adapters than there are different texts") {
  const workplace w;
  make_files(w);
  write(w / "one.jsonl", equal_texts(1, 1));
  write(w / "few.jsonl", equal_texts(12, 2));
  const auto run = [&](const std::string& arguments) {
    const auto done = w.run(small_build + "--steps 4 --out p --json r.json " + arguments);
    INFO(arguments << "\n" << done.err);
    REQUIRE(done.status == 0);
    return done.out;
  };
  CHECK(run("--data one.jsonl --adapters 1")
            .starts_with("p: 1 adapter of rank 2 from 1 sample of 1 cluster, loss "));
  run("--data one.jsonl --adapters 1 --independent");
  for (const std::string how : {"", " --independent", " --train-index --balance 1"}) {
    CHECK(run("--data few.jsonl --adapters 5" + how)
              .starts_with("p: 5 adapters of rank 2 from 12 samples of 5 clusters, loss "));
    const auto report = nlohmann::json::parse(read(w / "r.json"));
    for (const auto& size : report["cluster_sizes"]) CHECK(size.get<int>() > 0);
    CHECK(adapter::load_pool<float>((w / "p").string()));
    CHECK(w.run("info p").out.find("kind           pool\n") != std::string::npos);
  }
  const auto refused = w.run(small_build + "--data few.jsonl --adapters 13 --out q");
  CHECK(refused.status == 1);
  CHECK(refused.err == "crayon: few.jsonl: 12 samples for 13 adapters\n");
}

TEST_CASE("pool build: what no machine has room for is refused before it is tried") {
  const workplace w;
  make_files(w);
  const auto refused = [&](const std::string& arguments, const std::string& why) {
    const auto done = w.run(
        "pool build --model model.bin --data samples.jsonl --adapters 2 "
        "--steps 1048576 " +
        arguments);
    INFO(arguments << "\n" << done.err);
    CHECK(done.status == 1);
    CHECK(done.err.find(why) != std::string::npos);
    CHECK_FALSE(fs::exists(w / "p"));
  };
  refused("--out p --rank 99999", "rank 99999: no matrix of this model has a rank above 16\n");
  refused("--out p --rank 99999 --single",
          "rank 99999: no matrix of this model has a rank above 16\n");
  refused("--out p --users 1048576 --samples 1048576", " samples) of that size need more than ");
  CHECK(w.run(small_build + "--data samples.jsonl --out p --mix 1,1048577").status == 2);

  // What cannot be written is known before a million steps.
  fs::create_directory(w / "folder");
  refused("--out folder", "crayon: cannot write folder: not a regular file\n");
  refused("--out no/p", "crayon: cannot write no/p: No such file or directory\n");
  refused("--single --out model.bin/p", "crayon: cannot write model.bin/p: Not a directory\n");
  refused("--out p --checkpoint no/c", "crayon: cannot write no/c: No such file or directory\n");
}

TEST_CASE("pool build: a loss that is no number keeps the last good checkpoint") {
  const workplace w;
  make_files(w);
  // Every step multiplies the factors by -9999, until there are no such numbers.
  const std::string run = small_build +
                          "--data samples.jsonl --adapters 2 --steps 9 --shared-steps 99 --out p "
                          "--checkpoint c --checkpoint-every 1 --rate 1e-10 --decay 1e14 "
                          "--warm-up 0 --clip 0";
  const auto bad = w.run(run);
  INFO(bad.err);
  CHECK(bad.status == 1);
  CHECK(bad.err.find(": training step ") != std::string::npos);
  CHECK(bad.err.find(" (batch of 8 sequences, ") != std::string::npos);
  CHECK(bad.err.find("; samples ") != std::string::npos);
  CHECK(bad.err.ends_with("; c holds the last good state\n"));
  CHECK_FALSE(fs::exists(w / "p"));
  const std::string kept = read(w / "c");
  CHECK(w.run(run).err == bad.err);  // from there, the same step again
  CHECK((read(w / "c") == kept));
  const auto other =
      w.run(small_build + "--data samples.jsonl --adapters 2 --out p --checkpoint c");
  CHECK(other.status == 1);
  CHECK(other.err == "crayon: c: the checkpoint is of a run with clip 0, this run has 1\n");
}

TEST_CASE("pool build shows loss, speed and the time left on a terminal, and there alone") {
  const workplace w;
  make_files(w);
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  REQUIRE(terminal >= 0);
  REQUIRE(::grantpt(terminal) == 0);
  REQUIRE(::unlockpt(terminal) == 0);
  const std::string name = ::ptsname(terminal);
  const int held =
      ::open(name.c_str(), O_RDWR | O_NOCTTY);  // what is written stays until it is read
  const auto run_for_a_while = [&](const std::string& errors) {
    const std::string line = "cd '" + w.files().string() +
                             "' && timeout 4 '" CRAYON_PROGRAM
                             "' pool build --model model.bin --data samples.jsonl --adapters 2 "
                             "--out p --steps 1000000 --shared-steps 1 --threads 1 > out 2> " +
                             errors;
    CHECK(std::system(line.c_str()) != 0);  // it was not done
  };
  run_for_a_while(name);
  std::string shown(1 << 16, ' ');
  const auto count = ::read(terminal, shown.data(), shown.size());
  REQUIRE(count > 0);
  shown.resize(static_cast<std::size_t>(count));
  INFO(shown);
  for (const char* part : {"pool [", "/1000000, ", " s left, loss ", " tokens/s"}) {
    CHECK(shown.find(part) != std::string::npos);
  }
  ::close(held);
  ::close(terminal);
  run_for_a_while("errors");
  CHECK(read(w / "errors").empty());
}
