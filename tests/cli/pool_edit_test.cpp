// SPDX-License-Identifier: MIT
// crayon pool add | replace | remove
#include <sstream>

#include <nlohmann/json.hpp>

#include <crayon/adapter/mapped_pool.hpp>
#include <crayon/adapter/pool_file.hpp>

#include "program.hpp"

using namespace crayon;
using namespace crayon::cli_test;

namespace {

/// pool.safetensors: two adapters "one" and "two" of bf16 with index vectors; plain.safetensors:
/// the same without; third/: an adapter for them, as PEFT directory; other/: one of another rank.
void make_pools(const workplace& w) {
  make_files(w);
  const auto config = tiny_config();
  adapter::pool_info info;
  info.base_hash = model::read_llama2c<float>((w / "model.bin").string())->hash();
  info.embedding = "mean_pooling";
  info.matcher = "cosine_softmax";
  info.blend = "concat";
  info.names = {"one", "two"};
  const std::size_t width = 2 * config.dim;
  std::vector<float> rows(2 * width);
  rows[0] = rows[width + 1] = 1;
  const std::vector adapters{random_adapter(config, 1), random_adapter(config, 2)};
  const auto save = [&](const char* name, matrix_view<const float> index, std::size_t spare) {
    const auto pool = adapter::pool<float>::build(adapters, index, info);
    REQUIRE(pool);
    REQUIRE(adapter::save_pool((w / name).string(), *pool, {spare, {}}));
  };
  save("pool.safetensors", {rows.data(), 2, width}, 1);
  save("plain.safetensors", {}, 0);
  adapter::peft_info peft;
  peft.base_model = "model.bin";
  peft.base_hash = info.base_hash;
  REQUIRE(adapter::save_peft((w / "third").string(), random_adapter(config, 3), peft));
  peft.base_hash = "0123456789abcdef";
  REQUIRE(adapter::save_peft((w / "foreign").string(), random_adapter(config, 3), peft));
  rng random(9);
  constexpr std::array sites{model::projection::q, model::projection::down};
  peft.base_hash = info.base_hash;
  REQUIRE(adapter::save_peft(
      (w / "other").string(),
      train::initial_adapter(train::lora_shapes(config, 3, 6, sites), random), peft));
}

std::vector<std::string> names_in(const workplace& w, const char* pool) {
  const auto file = adapter::pool_contents::open((w / pool).string());
  REQUIRE(file);
  return file->info().names;
}

void changes_nothing(const workplace& w, const std::string& arguments, int status,
                     const std::vector<std::string>& parts) {
  INFO("crayon " << arguments);
  const auto before = w.snapshot();
  const auto done = w.run(arguments);
  INFO(done.err);
  CHECK(done.status == status);
  CHECK(done.out.empty());
  CHECK(std::count(done.err.begin(), done.err.end(), '\n') == 1);
  for (const auto& part : parts) {
    INFO(part);
    CHECK(done.err.find(part) != std::string::npos);
  }
  CHECK((w.snapshot() == before));
}

}  // namespace

TEST_CASE("an adapter is added to a pool, replaced and removed") {
  const workplace w;
  make_pools(w);
  const auto added = w.run(
      "pool add --pool pool.safetensors --adapter third/ --samples samples.jsonl "
      "--model model.bin --json r.json");
  INFO(added.err);
  REQUIRE(added.status == 0);
  CHECK(added.out == "pool.safetensors: third added; 3 adapters, 0 spare slots\n");
  const auto report = nlohmann::json::parse(read(w / "r.json"));
  CHECK(report["names"] == std::vector<std::string>{"one", "two", "third"});
  CHECK(report["adapters"] == 3);
  const auto pool = adapter::mapped_pool<float>::open((w / "pool.safetensors").string());
  REQUIRE(pool);
  const auto third = random_adapter(tiny_config(), 3);
  const auto got = pool->extract(2);
  for (std::size_t i = 0; i < third.size(); ++i) {
    const auto b = third.factors(i).b, same = got.factors(*got.find(third.module(i))).b;
    CHECK(std::equal(b.data, b.data + b.size(), same.data));
  }
  // It can be customized from: the user's samples are those of the new adapter.
  const auto made = w.run(
      "customize --model model.bin --pool pool.safetensors --samples samples.jsonl --out mine "
      "--json r.json");
  INFO(made.err);
  REQUIRE(made.status == 0);
  const std::vector<double> weights = nlohmann::json::parse(read(w / "r.json"))["weights"];
  CHECK(weights[2] > weights[0]);
  CHECK(weights[2] > weights[1]);

  REQUIRE(w.run("pool replace --pool pool.safetensors --name one --adapter third").status == 0);
  const auto replaced = adapter::mapped_pool<float>::open((w / "pool.safetensors").string());
  const auto first = replaced->extract(0);
  const auto have = first.factors(0).b, want = got.factors(0).b;
  CHECK(std::equal(want.data, want.data + want.size(), have.data));
  CHECK(replaced->index(0)[0] == 1);  // kept

  const auto removed = w.run("pool remove --pool pool.safetensors --name two --spare 2");
  INFO(removed.err);
  REQUIRE(removed.status == 0);
  CHECK(removed.out == "pool.safetensors: two removed; 2 adapters, 2 spare slots\n");
  CHECK(names_in(w, "pool.safetensors") == std::vector<std::string>{"one", "third"});

  REQUIRE(w.run("pool add --pool plain.safetensors --adapter third --name 3rd").status == 0);
  CHECK(names_in(w, "plain.safetensors") == std::vector<std::string>{"one", "two", "3rd"});
}

TEST_CASE("edits of pools that cannot be done change nothing") {
  const workplace w;
  make_pools(w);
  const std::string add = "pool add --pool pool.safetensors ";
  const std::string place = " --samples samples.jsonl --model model.bin";
  changes_nothing(w, add + "--adapter third", 1,
                  {"pool.safetensors", "index vectors", "--samples"});
  changes_nothing(w, add + "--adapter third --name one" + place, 1,
                  {"pool.safetensors: has an adapter one already"});
  changes_nothing(w, add + "--adapter other" + place, 1,
                  {"pool.safetensors: other has model.layers.0", "rank 3", "rank 2"});
  changes_nothing(w, add + "--adapter foreign" + place, 1, {"foreign", "0123456789abcdef"});
  changes_nothing(w, add + "--adapter none" + place, 1, {"none"});
  changes_nothing(w, add + "--adapter third --samples none.jsonl --model model.bin", 1,
                  {"none.jsonl"});
  changes_nothing(w, add + "--adapter third --samples samples.jsonl", 2, {"--model"});
  changes_nothing(w, "pool add --pool plain.safetensors --adapter third" + place, 1,
                  {"plain.safetensors: has no index vectors"});
  changes_nothing(w, "pool add --pool none.safetensors --adapter third", 1, {"none.safetensors"});
  changes_nothing(w, "pool add --pool model.bin --adapter third", 1,
                  {"model.bin", "not a safetensors"});
  changes_nothing(w, "pool replace --pool pool.safetensors --name nobody --adapter third", 1,
                  {"pool.safetensors: no adapter nobody in this pool of 2"});
  changes_nothing(w, "pool replace --pool pool.safetensors --adapter third", 2, {"--name"});
  changes_nothing(w, "pool remove --pool pool.safetensors --name nobody", 1,
                  {"pool.safetensors: no adapter nobody"});
  std::string bytes = read(w / "pool.safetensors");
  write(w / "cut.safetensors", bytes.substr(0, bytes.size() - 64));
  changes_nothing(w, "pool remove --pool cut.safetensors --name one", 1, {"cut.safetensors"});
  const auto file = adapter::pool_contents::open((w / "pool.safetensors").string());
  const auto at = static_cast<std::size_t>(file->at(0, 0, 1) - file->bytes().data());
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write(w / "altered.safetensors", bytes);
  changes_nothing(w, "pool remove --pool altered.safetensors --name one", 1,
                  {"altered.safetensors: checksum of ", " of two is ", "the content has"});
}
