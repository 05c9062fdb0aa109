// SPDX-License-Identifier: MIT
// Models that are stored as bf16 or f16 are run and trained on as they are: what comes of it is
// what comes of the same values in f32.
#include "program.hpp"

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/model/load_llama.hpp>

using namespace crayon;
using namespace crayon::cli_test;

namespace {

/// narrow/ as E, and wide/ with its values as f32.
template <element E>
void make_models(const workplace& w) {
  make_files(w);
  const auto path = [&](const std::string& name) { return (w / name).string(); };
  const auto weights = model::load_llama<E>(path("model.bin"));
  REQUIRE(weights);
  REQUIRE(model::write_hf_llama(path("narrow"), *weights));
  const auto widened = model::load_llama<float>(path("narrow"));
  REQUIRE(widened);
  REQUIRE(model::write_hf_llama(path("wide"), *widened));
  for (const std::string name : {"narrow", "wide"}) {
    fs::copy_file(w / "tokenizer.bin", w / (name + "/tokenizer.bin"));
  }
  adapter::peft_info info;
  info.base_model = "narrow";
  info.base_hash = widened->hash();
  REQUIRE(adapter::save_peft(path("foreign"), random_adapter(tiny_config(), 3), info));
}

/// The report of a command on that model; `json` is what differs from run to run without.
nlohmann::json report_on(const workplace& w, const std::string& model, const std::string& command) {
  const auto done = w.run(command + " --model " + model + " --json r.json");
  INFO(command << "\n" << done.err);
  REQUIRE(done.status == 0);
  auto report = nlohmann::json::parse(read(w / "r.json"));
  for (const char* of_a_run : {"seconds", "training_seconds", "peak_memory_bytes", "embed_ms",
                               "blend_ms", "tokens_per_second", "model_type", "model_bytes"}) {
    report.erase(of_a_run);
  }
  if (report.contains("search")) report["search"].erase("seconds");
  return report;
}

}  // namespace

TEMPLATE_TEST_CASE("a model in two bytes a weight does what its values in f32 do", "", bf16, f16) {
  const workplace w;
  make_models<TestType>(w);
  write(w / "third.jsonl", R"({"prompt": "after a", "completion": "b"})"
                           "\n"
                           R"({"prompt": "after c", "completion": "d"})"
                           "\n");
  const auto same = [&](const std::string& command) {
    const auto narrow = report_on(w, "narrow", command), wide = report_on(w, "wide", command);
    INFO(command);
    CHECK(narrow == wide);
    return narrow;
  };
  const std::string train = "pool build --users 2 --samples 4 --steps 6 --threads 2 ";
  for (const std::string kind : {"--embedding error_pooling", "--embedding mean_pooling --rate 0.1",
                                 "--embedding last_token --recompute", "--independent"}) {
    same(train + "--data samples.jsonl --adapters 2 --rank 2 --out p " + kind);
  }
  same(train + "--data samples.jsonl --rank 2 --single --out one");
  same(train + "--data third.jsonl --add p --out longer");
  same("pool tune --pool p --data samples.jsonl --tau 0.05,0.5 --users 4 --per-user 3 --out t");
  same("customize --pool p --samples third.jsonl --search 9 --out mine");
  same("pool import --adapter foreign --samples third.jsonl --out i");
  same("pool import --adapter foreign --out arrow");
  same("customize --pool arrow --samples third.jsonl --out mine");
  same("pool replace --pool i --adapter foreign --name foreign --samples third.jsonl");
  same("logits --ids 1,40,41 --adapter mine --out l");
  const std::string bytes = read(w / "l");
  report_on(w, "narrow", "logits --ids 1,40,41 --adapter mine --out l");
  CHECK((read(w / "l") == bytes));
  same("perplexity --text third.jsonl");
  same("generate --prompt after --tokens 9");
  same("route domains --data samples.jsonl --out d");

  // And it takes half of the memory.
  const auto build = train + "--data samples.jsonl --adapters 2 --rank 2 --out p --json r.json ";
  const auto bytes_of = [&](const std::string& model, const std::string& type) {
    const auto done = w.run(build + "--model " + model);
    REQUIRE(done.status == 0);
    CHECK(done.out.find(" are the model as " + type + "\n") != std::string::npos);
    const auto report = nlohmann::json::parse(read(w / "r.json"));
    CHECK(report["model_type"] == type);
    const auto told = w.run("info " + model);
    CHECK(told.out.find("type           " + type + "\n") != std::string::npos);
    return report["model_bytes"].get<std::size_t>();
  };
  const std::size_t norms = (2 * tiny_config().layers + 1) * tiny_config().dim * sizeof(float);
  CHECK(2 * (bytes_of("narrow", std::string(name(dtype_of<TestType>))) - norms) ==
        bytes_of("wide", "F32") - norms);
}
