// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <csignal>

#include <chrono>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

#include <crayon/serve/curl_transport.hpp>

using namespace crayon;
using namespace crayon::cli_test;

namespace {

/// `crayon serve` in the background, until the end of the scope.
class serving {
 public:
  serving(const workplace& w, const std::string& arguments) {
    const std::string line = "cd '" + w.files().string() +
                             "' && { '" CRAYON_PROGRAM "' serve --port 0 --json serve.json " +
                             arguments + " > serve.out 2> serve.err & echo $! > serve.pid; }";
    REQUIRE(std::system(line.c_str()) == 0);
    pid_ = std::stoi(read(w / "serve.pid"));
    for (int i = 0; i < 500 && url.empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      const std::string out = read(w / "serve.out");
      if (out.ends_with('\n')) url = out.substr(0, out.size() - 1);
    }
    INFO(read(w / "serve.err"));
    REQUIRE(url.starts_with("http://127.0.0.1:"));
  }
  ~serving() { stop(); }
  serving(const serving&) = delete;
  serving& operator=(const serving&) = delete;

  /// SIGTERM, and until it is gone.
  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    for (int i = 0; i < 500 && ::kill(pid_, 0) == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    pid_ = 0;
  }

  [[nodiscard]] nlohmann::json ask(const std::string& fields) const {
    serve::curl_transport transport;
    serve::http_request request;
    request.url = url + "/completions";
    request.headers = {{"Content-Type", "application/json"}};
    request.body = R"({"prompt":"next 5","max_tokens":24,"temperature":0)" + fields + "}";
    request.deadline = serve::clock::now() + std::chrono::seconds(20);
    std::string body;
    const auto got = transport.post(request, [&](const auto&, std::string_view bytes) {
      body += bytes;
      return true;
    });
    REQUIRE(got);
    return nlohmann::json::parse(body);
  }

  std::string url;

 private:
  int pid_ = 0;
};

nlohmann::json remote_report(const workplace& w) {
  return nlohmann::json::parse(read(w / "r.json"));
}

/// A pool of two adapters with their samples, and a user's.
void make_pool(const workplace& w) {
  make_files(w);
  adapter::peft_info info;
  info.base_model = "model.bin";
  info.base_hash = model::read_llama2c<float>((w / "model.bin").string())->hash();
  fs::create_directory(w / "all");
  fs::copy(w / "adapter", w / "all/one");
  REQUIRE(adapter::save_peft((w / "all/two").string(), random_adapter(tiny_config(), 3), info));
  std::string next, twice;
  for (int i = 0; i < 12; ++i) {
    const std::string n = std::to_string(i);
    next += R"({"prompt": "next )" + n + R"(", "completion": ")" + std::to_string(i + 1) + "\"}\n";
    twice +=
        R"({"prompt": "twice )" + n + R"(", "completion": ")" + std::to_string(2 * i) + "\"}\n";
  }
  write(w / "next.jsonl", next);
  write(w / "twice.jsonl", twice);
  write(w / "mine.jsonl",
        "{\"prompt\": \"next 30\", \"completion\": \"31\"}\n"
        "{\"prompt\": \"twice 4\", \"completion\": \"8\"}\n");
  const auto made = w.run(
      "pool import --model model.bin --adapter all/one --adapter all/two --samples next.jsonl "
      "--samples twice.jsonl --tau 0.5 --out pool.safetensors");
  INFO(made.err);
  REQUIRE(made.status == 0);
}

}  // namespace

TEST_CASE("a pool elsewhere gives the adapter of a pool here, and hears scores only") {
  const workplace w;
  make_pool(w);
  const std::string local = "customize --model model.bin --samples mine.jsonl ";
  REQUIRE(w.run(local + "--pool pool.safetensors --out here --json r.json").status == 0);
  const std::vector<double> weights = remote_report(w)["weights"];
  serving server(w, "--model model.bin --pool pool.safetensors");
  const std::string remote = local + "--server " + server.url + " --json r.json ";

  const auto done = w.run(remote + "--out there");
  INFO(done.err);
  REQUIRE(done.status == 0);
  CHECK(remote_report(w)["weights"].get<std::vector<double>>() == weights);
  CHECK(read(w / "there/adapter_model.safetensors") == read(w / "here/adapter_model.safetensors"));
  const auto config = [&](const char* name) {
    auto c = nlohmann::json::parse(read(w / name));
    std::sort(c["target_modules"].begin(), c["target_modules"].end());
    return c;
  };
  CHECK(config("there/adapter_config.json") == config("here/adapter_config.json"));
  CHECK(done.out.find("16 bytes, that is 2 scores of 4 bytes and the pool's hash (8); no text") !=
        std::string::npos);
  CHECK(remote_report(w)["sent_bytes"] == 16);

  const auto coarse = w.run(remote + "--scores 8bit --out coarse");
  REQUIRE(coarse.status == 0);
  CHECK(remote_report(w)["sent_bytes"] == 10);
  const std::vector<double> rounded = remote_report(w)["weights"];
  for (std::size_t i = 0; i < 2; ++i) CHECK(rounded[i] == Approx(weights[i]).margin(0.004));

  const auto noisy = w.run(remote + "--epsilon 1 --delta 1e-6 --out noisy");
  REQUIRE(noisy.status == 0);
  CHECK(noisy.out.find("(1, 1e-06)-differentially private in any one of the 2 samples") !=
        std::string::npos);
  CHECK(remote_report(w)["noise"]["sigma"].get<double>() ==
        Approx(4.2246788893268 * std::sqrt(2.0) / 2).epsilon(1e-6));
  REQUIRE(w.run(remote + "--epsilon 1 --scores 8bit --out noisy").status == 0);

  // Another model than the pool's is told so before anything is sent.
  rng random(9);
  REQUIRE(model::write_llama2c((w / "other.bin").string(),
                               train::initial_weights(tiny_config(), random, 0.2F)));
  const auto other = w.run(
      "customize --model other.bin --tokenizer tokenizer.bin --samples "
      "mine.jsonl --server " +
      server.url + " --out no");
  CHECK(other.status == 1);
  CHECK(other.err.find("made with the base model") != std::string::npos);
  CHECK_FALSE(fs::exists(w / "no"));
  server.stop();
  CHECK(nlohmann::json::parse(read(w / "serve.json"))["stopped_by"] == "SIGTERM");
  const auto gone = w.run(remote + "--out no");
  CHECK(gone.status == 1);
  CHECK(std::count(gone.err.begin(), gone.err.end(), '\n') == 1);
  for (const std::string wrong :
       {"", "--server u --pool p", "--pool p --epsilon 1", "--server u --delta 0.1",
        "--server u --epsilon 0", "--server u --epsilon nan", "--server u --scores 4bit",
        "--server u --search 5", "--server u --policy linear"}) {
    INFO(wrong);
    CHECK(w.run(local + "--out no " + wrong).status == 2);
  }
}

TEST_CASE("a pool whose weights differ from site to site is refused from elsewhere") {
  const workplace w;
  make_pool(w);
  REQUIRE(w.run("pool import --model model.bin --adapter all/one --adapter all/two --out arrow")
              .status == 0);
  serving server(w, "--model model.bin --pool arrow");
  const auto refused =
      w.run("customize --model model.bin --samples mine.jsonl --out no --server " + server.url);
  CHECK(refused.status == 1);
  CHECK(refused.err.find("weights differ from site to site") != std::string::npos);
  CHECK_FALSE(fs::exists(w / "no"));
}

TEST_CASE("a request has the adapter or the mix that it names, whatever came before") {
  const workplace w;
  make_pool(w);
  serving server(w, "--model model.bin --adapters all --sessions 2 --adapter all/two");
  const auto text = [&](const std::string& fields) {
    const auto answer = server.ask(fields);
    INFO(answer.dump());
    REQUIRE(answer.contains("choices"));
    return answer["choices"][0]["text"].get<std::string>();
  };
  const std::string own = text(""), one = text(R"(,"model":"one")"),
                    two = text(R"(,"model":"two")");
  CHECK(own == two);
  CHECK(one != two);
  CHECK(text(R"(,"model":"blend","blend":{"one":1,"two":0})") == one);
  const std::string mix = text(R"(,"model":"blend","blend":{"one":3,"two":-2})");
  CHECK(mix != one);
  CHECK(mix != two);
  for (int i = 0; i < 3; ++i) {
    CHECK(text(R"(,"model":"one")") == one);
    CHECK(text("") == own);
    CHECK(text(R"(,"model":"blend","blend":{"one":3,"two":-2})") == mix);
  }
  const auto scored = server.ask(R"(,"logprobs":2)")["choices"][0]["logprobs"];
  CHECK(scored["tokens"].size() == scored["token_logprobs"].size());
  CHECK(scored["top_logprobs"][0].size() == 2);
  CHECK(server.ask(R"(,"model":"three")")["error"]["code"] == "model_not_found");
  CHECK(server.ask(R"(,"blend":{"three":1})")["error"]["code"] == "model_not_found");
  CHECK(w.run("serve --model model.bin --adapters nowhere").status == 1);
  CHECK(w.run("serve --model model.bin --adapters all --name one").status == 1);
}
