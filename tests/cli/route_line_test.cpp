// SPDX-License-Identifier: MIT
// crayon route fit --policy linear, budgets, and crayon route domains: what crayon ask makes of
// them.
#include <crayon/core/rng.hpp>

#include "program.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include <cmath>
#include <csignal>
#include <string>

using namespace crayon::cli_test;

namespace {

using line_json = nlohmann::json;

/// 900 queries that are wrong by 1 / (1 + exp(3 margin - entropy)); the server is always right.
std::string line_rows() {
  crayon::rng random(5);
  std::string csv = "margin,entropy,perplexity,domain_mismatch,device_ok,server_ok,split\n";
  for (int i = 0; i < 900; ++i) {
    const float margin = random.uniform(), entropy = random.normal();
    const float p = 1 / (1 + std::exp(3 * margin - entropy));
    csv += std::to_string(margin) + "," + std::to_string(entropy) + ",1,2," +
           std::to_string(random.uniform() >= p) + ",1," + (i % 3 == 0 ? "eval" : "fit") + "\n";
  }
  return csv;
}

const std::string ask_one =
    "ask --model model.bin --server http://127.0.0.1:1/v1 --retries 0 -n 2 --json a.json next ";

}  // namespace

TEST_CASE("route fit: a line is fitted on some rows, its threshold on others", "[route]") {
  const workplace w;
  make_files(w);
  write(w / "s.csv", line_rows());
  const std::string fit =
      "route fit --scores s.csv --model model.bin --json r.json --out R.json --policy linear ";
  const auto fitted = [&](const std::string& options) {
    const auto done = w.run(fit + options);
    INFO(done.err);
    REQUIRE(done.status == 0);
    return line_json::parse(read(w / "r.json"));
  };
  auto report = fitted("--signals margin,entropy --promise mean --alpha 0.1");
  CHECK(report["line"]["queries"] == 600);
  CHECK(report["queries"] == 300);  // the others
  CHECK(report["promise"] == "P(kept and wrong) <= 0.1 in the mean, from 300 queries");
  CHECK(report["line"]["weights"]["margin"].get<double>() == Approx(-3).margin(1));
  CHECK(report["line"]["weights"]["entropy"].get<double>() == Approx(1).margin(0.4));
  auto file = line_json::parse(read(w / "R.json"));
  CHECK(file["promise"]["line"]["signals"] == line_json({"margin", "entropy"}));
  CHECK(file["promise"]["line"]["weights"][0] == report["line"]["weights"]["margin"]);
  CHECK(file["promise"]["threshold"] == report["threshold"]);
  CHECK(file["promise"].count("signal") == 0);
  const double mean = report["threshold"];

  auto done = w.run(ask_one + "--router R.json");
  INFO(done.err);
  REQUIRE(done.status == 0);
  auto asked = line_json::parse(read(w / "a.json"));
  CHECK(asked["decided_by"] == "linear");
  CHECK(asked["threshold"].get<double>() == Approx(mean).epsilon(1e-6));
  const double score = file["promise"]["line"]["bias"].get<double>() +
                       file["promise"]["line"]["weights"][0].get<double>() *
                           asked["signals"]["margin"].get<double>() +
                       file["promise"]["line"]["weights"][1].get<double>() *
                           asked["signals"]["entropy"].get<double>();
  CHECK(asked["score"].get<double>() == Approx(1 / (1 + std::exp(-score))).epsilon(1e-5));
  CHECK(asked["promise"] == report["promise"]);
  const bool kept = asked["score"].get<double>() <= mean;
  CHECK(asked["under_promise"] == kept);
  CHECK(asked["source"] == (kept ? "device" : "device_after_failure"));

  report = fitted("--signals margin,entropy --promise probability --alpha 0.1 --delta 0.05");
  CHECK(report["threshold"] < mean);  // more is promised, so less is kept
  report = fitted("--signals entropy,margin --promise none --call-rate 0.25");
  CHECK(report["fitted on"]["call_rate"].get<double>() == Approx(0.25).margin(0.01));
  file = line_json::parse(read(w / "R.json"));
  CHECK(file["line"]["threshold"] == report["threshold"]);
  CHECK(file.count("promise") == 0);
  done = w.run(ask_one + "--router R.json");
  CHECK(done.status == 0);
  CHECK(line_json::parse(read(w / "a.json"))["decided_by"] == "linear");

  // Without a column that splits, half of the rows are the line's.
  report = fitted("--signals margin --promise mean --fit-share 0.5");
  CHECK(report["line"]["queries"] == 450);
  CHECK(report["queries"] == 450);
}

TEST_CASE("route fit: lines and budgets that cannot be are refused", "[route]") {
  const workplace w;
  make_files(w);
  write(w / "s.csv", line_rows());
  const auto fault = [&](const std::string& options) {
    const auto done = w.run("route fit --scores s.csv --model model.bin --out R.json " + options);
    CHECK(done.status != 0);
    CHECK_FALSE(fs::exists(w / "R.json"));
    return done.err;
  };
  const auto says = [&](const std::string& options, const char* what) {
    const std::string text = fault(options);
    INFO(options << "\n" << text);
    CHECK(text.find(what) != std::string::npos);
  };
  says("--policy linear --promise mean", "--signals");
  says("--signals margin --promise mean", "--policy linear");
  says("--policy linear --signals margin --score margin --promise mean", "--score");
  says("--policy linear --signals margin,mood --promise mean", "\"mood\" is no signal");
  says("--policy linear --signals margin,margin --promise mean", "there twice");
  says("--policy linear --signals max_logit --promise mean", "no column \"max_logit\"");
  says("--policy linear --signals margin,perplexity --promise mean --after-prefill",
       "not known after prefill");
  says("--policy linear --signals domain_mismatch --promise mean", "needs --domains");
  // Without a pool there is nothing that crayon ask could measure them to.
  says("--policy linear --signals margin,domain_mismatch --promise mean --domains D.safetensors",
       "domain_mismatch needs --pool");
  write(w / "s.csv", "scope_distance,device_ok,server_ok\n1,1,1\n3,0,1\n");
  says("--score scope_distance --promise none", "scope_distance needs --pool");
  write(w / "s.csv", line_rows());
  says("--policy linear --signals margin --promise mean --fit-share 0", "0 queries of 1 signals");
  says("--score margin --promise mean --budget 0.5", "it would keep what the promise sends");
  says("--score margin --promise none --budget 1.5", "--budget");
  says("--score margin --promise none --burst 2", "--budget");
  // crayon ask knows one direction only: a promise on the other would not hold.
  says("--score margin:risk --promise mean", "margin: crayon ask sends what is below");
  says("--score entropy:confidence --promise none", "entropy: crayon ask sends what is above");
  // All rows are the line's, and none is left for the threshold.
  std::string all = line_rows();
  for (auto at = all.find("eval"); at != std::string::npos; at = all.find("eval")) {
    all.replace(at, 4, "fit");
  }
  write(w / "s.csv", all);
  says("--policy linear --signals margin --promise mean", "0 calibration queries");
}

TEST_CASE("a router's budget counts from one question to the next", "[route]") {
  const workplace w;
  make_files(w);
  write(w / "s.csv", line_rows());
  auto done = w.run(
      "route fit --scores s.csv --model model.bin --out R.json --score margin --promise none "
      "--call-rate 1 --budget 0.5");
  INFO(done.err);
  REQUIRE(done.status == 0);
  CHECK(w.run(ask_one + "--router R.json").err.find("--budget-count") != std::string::npos);
  const std::string ask = ask_one + "--router R.json --budget-count count ";
  for (int query = 1; query <= 4; ++query) {  // everything would go, every second may
    done = w.run(ask);
    INFO(done.err);
    REQUIRE(done.status == 0);
    const auto report = line_json::parse(read(w / "a.json"));
    const bool may = query % 2 == 0;
    CHECK(report["source"] == (may ? "device_after_failure" : "device"));
    CHECK(report["decided_by"] == (may ? "margin" : "budget"));
    CHECK(report["budget"]["queries"] == query);
    CHECK(report["budget"]["calls"] == query / 2);
  }
  CHECK(read(w / "count") == "4 2\n");
  for (const char* text : {"4 many\n", "-4 2\n", "4 2 1\n"}) {
    write(w / "count", text);
    done = w.run(ask);
    CHECK(done.status == 1);
    CHECK(done.err == "crayon: count: not a budget's counts of queries and calls\n");
    CHECK(read(w / "count") == text);
  }
}

TEST_CASE("a process that ends while the server is asked has counted the call", "[route]") {
  const workplace w;
  make_files(w);
  write(w / "s.csv", line_rows());
  REQUIRE(w.run("route fit --scores s.csv --model model.bin --out R.json --score margin --promise "
                "none --call-rate 1 --budget 0.5")
              .status == 0);
  write(w / "count", "9 4\n");
  // A server that takes connections and says nothing.
  const int server = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const at = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  REQUIRE(::bind(server, at, size) == 0);
  REQUIRE(::listen(server, 1) == 0);
  REQUIRE(::getsockname(server, at, &size) == 0);
  const std::string command = "cd '" + w.files().string() + "' && exec '" CRAYON_PROGRAM
                              "' ask --model model.bin --retries 0 -n 2 --router R.json "
                              "--budget-count count next --server http://127.0.0.1:" +
                              std::to_string(ntohs(address.sin_port)) + "/v1 > ../out 2> ../err";
  const pid_t program = ::fork();
  if (program == 0) {
    ::execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  pollfd waits{server, POLLIN, 0};
  const int asked = ::poll(&waits, 1, 60'000);
  ::kill(program, SIGKILL);
  int status = 0;
  ::waitpid(program, &status, 0);
  ::close(server);
  INFO(read(w.files().parent_path() / "err"));
  REQUIRE(asked == 1);
  CHECK(read(w / "count") == "9 5\n");
}

TEST_CASE("route domains: the space that ask measures the mismatch in", "[route]") {
  const workplace w;
  make_files(w);
  std::string texts;
  for (int i = 0; i < 30; ++i) {
    const std::string n = std::to_string(i);
    for (const auto& [task, words] : std::map<std::string, std::string>{
             {"count/next", "next "}, {"count/twice", "twice "}, {"word", "spell the word "}}) {
      texts +=
          R"({"prompt": ")" + words + n + R"(", "completion": "1", "task": ")" + task + "\"}\n";
    }
  }
  write(w / "texts.jsonl", texts);
  const std::string make = "route domains --model model.bin --out D.safetensors --json r.json ";
  auto done = w.run(make + "--data texts.jsonl");
  INFO(done.err);
  REQUIRE(done.status == 0);
  const auto made = line_json::parse(read(w / "r.json"));
  CHECK(made["questions"] == 90);
  CHECK(made["domains"] == line_json({"count", "word"}));
  CHECK(made["tasks"] == line_json({"count/next", "count/twice", "word"}));
  CHECK(made["directions"] == 2);

  done = w.run(
      "pool build --model model.bin --data samples.jsonl --adapters 2 --rank 2 --steps 2 "
      "--out pool.safetensors");
  INFO(done.err);
  REQUIRE(done.status == 0);
  write(w / "s.csv", line_rows());
  done = w.run(
      "route fit --scores s.csv --model model.bin --pool pool.safetensors --out R.json "
      "--policy linear --signals margin,domain_mismatch --promise none --domains D.safetensors");
  INFO(done.err);
  REQUIRE(done.status == 0);
  CHECK(line_json::parse(read(w / "R.json"))["bound_to"]["domains"] == made["hash"]);
  const std::string ask =
      ask_one + "--router R.json --pool pool.safetensors --samples samples.jsonl ";
  const auto mismatch = [&](const std::string& question) {
    std::string line = ask + "--domains D.safetensors ";
    line.replace(line.find(" next "), 6, " '" + question + "' ");
    done = w.run(line);
    INFO(done.err);
    REQUIRE(done.status == 0);
    const auto asked = line_json::parse(read(w / "a.json"));
    CHECK(asked["signals"]["question_surprise"].get<double>() > 0);
    return asked["signals"]["domain_mismatch"].get<double>();
  };
  // The samples are of one domain.
  CHECK(mismatch("twice 7") < mismatch("spell the word 7"));

  CHECK(w.run(ask).err.find("domain_mismatch needs --domains") != std::string::npos);
  done = w.run(make + "--data texts.jsonl --sharpness 1");
  REQUIRE(done.status == 0);
  done = w.run(ask + "--domains D.safetensors");
  CHECK(done.status == 1);
  CHECK(done.err.find("fitted to the domains " + made["hash"].get<std::string>()) !=
        std::string::npos);
  // A router that looks at no domains does not mind which are recorded.
  done = w.run(
      "route fit --scores s.csv --model model.bin --pool pool.safetensors --out R.json "
      "--score margin --promise none");
  REQUIRE(done.status == 0);
  CHECK(std::isfinite(mismatch("twice 7")));
  // One domain alone, or tasks that are not told.
  CHECK(w.run(make + "--data samples.jsonl").status == 0);
  write(w / "one.jsonl", R"({"prompt": "a", "completion": "b"})");
  CHECK(w.run(make + "--data one.jsonl").err.find("has no \"task\"") != std::string::npos);
  write(w / "one.jsonl", R"({"prompt": "a", "completion": "b", "task": "a/b"})");
  CHECK(w.run(make + "--data one.jsonl").err.find("1 domains; needs 2") != std::string::npos);
}
