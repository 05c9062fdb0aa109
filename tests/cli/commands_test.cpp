// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <sstream>

#include <nlohmann/json.hpp>

#include <crayon/io/safetensors.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/simd/scalar.hpp>

using namespace crayon;
using namespace crayon::cli_test;

namespace {

nlohmann::json report(const workplace& w) {
  return nlohmann::json::parse(read(w / "r.json"));
}

std::string shared_data(const std::string& name) {
  const char* at = std::getenv("CRAYON_DATA");
  const fs::path path = fs::path(at != nullptr ? at : CRAYON_SOURCE_DIR "/../shared/data") / name;
  return fs::exists(path) ? path.string() : std::string();
}

}  // namespace

TEST_CASE("generate gives the tokens of llama2.c's run.c") {
  const std::string model = shared_data("models/stories260K/stories260K.bin");
  const std::string tokens = shared_data("models/stories260K/tok512.bin");
  if (model.empty() || tokens.empty()) {
    WARN("skipped: no models/stories260K in CRAYON_DATA or ../shared/data");
    return;
  }
  std::vector<int> want;
  std::ifstream file(CRAYON_SOURCE_DIR "/tests/model/fixtures/stories260K.txt");
  for (int id = 0; file >> id;) want.push_back(id);
  REQUIRE(want.size() >= 200);

  const workplace w;
  const auto done = w.run("generate --model '" + model + "' --tokenizer '" + tokens +
                          "' --prompt 'Once upon a time' --temperature 0 --tokens " +
                          std::to_string(want.size()) + " --json r.json");
  INFO(done.err);
  REQUIRE(done.status == 0);
  CHECK(done.err.empty());
  CHECK(done.out.starts_with("Once upon a time, there was a little girl named Lily."));
  const auto r = report(w);
  std::vector<int> got = r["prompt_tokens"];
  REQUIRE(got.front() == 1);
  got.erase(got.begin());
  const std::vector<int> drawn = r["tokens"];
  got.insert(got.end(), drawn.begin(), drawn.end());
  REQUIRE(got.size() >= want.size());
  got.resize(want.size());
  CHECK(got == want);
}

TEST_CASE("logits are those of the scalar forward pass, with and without an adapter") {
  const workplace w;
  make_files(w);
  const auto weights = *model::read_llama2c<float>((w / "model.bin").string());
  const auto adapter = random_adapter(weights.config(), 2);
  const std::vector<std::int32_t> ids{1, 40, 41, 258, 7};
  for (const float scale : {0.0F, 1.0F, -0.5F}) {
    std::ostringstream option;
    if (scale != 0) option << " --adapter adapter:" << scale;
    const auto done =
        w.run("logits --model model.bin --ids 1,40,41,258,7 --out l.safetensors" + option.str());
    INFO(done.err);
    REQUIRE(done.status == 0);
    const auto file = io::safetensors::open((w / "l.safetensors").string());
    REQUIRE(file);
    const std::size_t vocab = weights.config().vocab;
    std::vector<float> got(ids.size() * vocab);
    REQUIRE(io::read_matrix(*file, "logits", matrix_view<float>(got.data(), ids.size(), vocab)));
    using delta = model::lora_delta<simd::scalar, float>;
    delta d(weights.config());
    if (scale != 0) REQUIRE(d.append(adapter, scale));
    model::llama_session<simd::scalar, float> s(weights);
    double squares = 0, size = 0;
    s.for_each_logits(
        ids,
        [&](std::size_t i, std::span<float> l) {
          for (std::size_t j = 0; j < vocab; ++j) {
            const double off = double{got[i * vocab + j]} - double{l[j]};
            squares += off * off;
            size += double{l[j]} * double{l[j]};
          }
        },
        d);
    REQUIRE(size > 0);
    CHECK(std::sqrt(squares / size) < 1e-5);
  }
}

TEST_CASE("from samples to a pool, from the pool to an adapter, and the adapter in use") {
  const workplace w;
  make_files(w);
  const auto built = w.run(
      "pool build --model model.bin --data samples.jsonl --adapters 3 --rank 2 --steps 30 "
      "--users 2 --samples 4 --out pool.safetensors --json r.json");
  INFO(built.err);
  REQUIRE(built.status == 0);
  CHECK(report(w)["adapters"] == 3);
  CHECK(report(w)["loss"].get<double>() < 5.5);  // ln 259 = 5.56 before training

  REQUIRE(w.run("info pool.safetensors --json r.json").status == 0);
  CHECK(report(w)["kind"] == "pool");
  CHECK(report(w)["tau"] == Approx(0.1));

  write(w / "mine.jsonl", R"({"prompt": "next 3", "completion": "4"})");
  const auto made = w.run(
      "customize --model model.bin --pool pool.safetensors --samples mine.jsonl --out mine "
      "--json r.json");
  INFO(made.err);
  REQUIRE(made.status == 0);
  const std::vector<double> weights = report(w)["weights"];
  REQUIRE(weights.size() == 3);
  CHECK(weights[0] + weights[1] + weights[2] == Approx(1));

  // The same blend by hand, and both change what the model says. What a weight below 1e-4 would
  // add is left out: the sum's rank is that of the others.
  std::ostringstream list;
  list.precision(9);
  std::size_t kept = 0;
  for (const double weight : weights) {
    if (list.tellp() > 0) list << ',';
    list << (weight < 1e-4 ? 0 : weight);
    if (weight >= 1e-4) ++kept;
  }
  CHECK(kept < 3);
  REQUIRE(w.run("blend --pool pool.safetensors --weights " + list.str() + " --out same").status ==
          0);
  const auto logits = [&](const std::string& more) {
    REQUIRE(w.run("logits --model model.bin --ids 1,40,41 --out l.safetensors" + more).status == 0);
    std::string bytes = read(w / "l.safetensors");
    return bytes;
  };
  const auto base = logits(""), one = logits(" --adapter mine"), two = logits(" --adapter same");
  CHECK(one != base);
  CHECK(one == two);

  REQUIRE(w.run("info mine --json r.json").status == 0);
  CHECK(report(w)["kind"] == "adapter");
  CHECK(report(w)["ranks"] == "14 x rank " + std::to_string(2 * kept));
  CHECK(w.run("generate --model model.bin --adapter mine --prompt 'next 5' --tokens 5").status ==
        0);
  write(w / "text.txt", "next 5 6");
  REQUIRE(w.run("perplexity --model model.bin --text text.txt --json r.json").status == 0);
  CHECK(report(w)["perplexity"].get<double>() > 1);
}

TEST_CASE("each command explains itself; wrong usage is status 2 and one line") {
  const workplace w;
  for (const char* command : {"", "info", "generate", "logits", "perplexity", "blend", "pool",
                              "pool build", "customize", "ask", "serve"}) {
    INFO(command);
    const auto help = w.run(std::string(command) + " --help");
    CHECK(help.status == 0);
    CHECK(help.out.size() > 100);
    CHECK(help.err.empty());
  }
  for (const char* wrong :
       {"", "nonsense", "generate", "generate --model m --prompt p --tokens x", "blend --out o",
        "logits --ids 1,a --model m --out o", "logits --ids '' --model m --out o",
        "logits --ids 1,,2 --model m --out o", "logits --ids 1, --model m --out o",
        "generate --model m --prompt p --json m", "route eval --scores s --svg s",
        "route eval --scores s --svg p --json p", "route eval --scores s --json s",
        "logits --ids 1 --model m --out m", "logits --ids 1 --model m --out o --json o",
        "blend --adapter a --policy ties --density 0 --out o",
        "pool import --model m --adapter a --spare -1 --out o",
        "pool import --model m --adapter a --top-k 2000000 --out o",
        "pool import --model m --adapter a --tau 0 --out o",
        "generate --model m --prompt p --temperature -1",
        "generate --model m --prompt p --temperature nan",
        "generate --model m --prompt p --top-p nan", "generate --model m --prompt p --tokens -1",
        "generate --model m --prompt p --seed -1",
        "perplexity --model m --text t --context -3",
        "ask --model m --router r --server http://u --deadline nan p",
        "ask --model m --router r --server ftp://host/v1 p",
        "ask --model m --router r --server host:80 p",
        "ask --model m --router r --server http:// p",
        "ask --model m --router r --server http://u --hedge ftp://host/v1 p",
        "ask --model m --router r --server http://u --retries -1 p",
        "ask --model m --router r --server http://u --hedge-after 5 p"}) {
    INFO(wrong);
    const auto done = w.run(wrong);
    CHECK(done.status == 2);
    CHECK(done.out.empty());
    CHECK(done.err.starts_with("crayon: "));
    CHECK(done.err.size() < 200);
    CHECK(std::count(done.err.begin(), done.err.end(), '\n') == 1);
  }
}

TEST_CASE("a word that is mistyped is named, not what is missing for it") {
  const workplace w;
  CHECK(w.run("poo build").err.starts_with("crayon: not understood: poo "));
  CHECK(w.run("blend --bogus").err.starts_with("crayon: not understood: --bogus "));
}

TEST_CASE("output that cannot be written is an error, before the work where it can be known") {
  const workplace w;
  make_files(w);
  const auto full = w.run("info model.bin > /dev/full 2> ../err #");
  CHECK(full.status == 1);
  CHECK(full.err == "crayon: cannot write standard output: No space left on device\n");
  const auto late = w.run("blend --adapter adapter:1 --out o --json no/such.json");
  CHECK(late.status == 1);
  CHECK_FALSE(fs::exists(w / "o"));
  CHECK(w.run("logits --model model.bin --ids 1,2 --out l --json -").out.find("\"shape\"") !=
        std::string::npos);
  write(w / "real.json", "old");
  fs::create_symlink("real.json", w / "link.json");
  REQUIRE(w.run("info model.bin --json link.json").status == 0);
  CHECK(fs::is_symlink(w / "link.json"));
  CHECK(read(w / "real.json") != "old");
  const std::string before = read(w / "model.bin");
  fs::create_symlink("model.bin", w / "same.bin");
  CHECK(w.run("logits --model model.bin --ids 1 --out same.bin").status == 2);
  CHECK(read(w / "model.bin") == before);
  CHECK(w.run("logits --model model.bin --ids 1 --adapter adapter:3e38 --out l2").status == 1);
  CHECK_FALSE(fs::exists(w / "l2"));
}
