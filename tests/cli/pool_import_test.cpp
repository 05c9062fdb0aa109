// SPDX-License-Identifier: MIT
// Foreign adapters into a pool, and the choice of its numbers.
#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>

#include "program.hpp"

using namespace crayon;
using namespace crayon::cli_test;

namespace {

nlohmann::json report_of(const workplace& w) {
  return nlohmann::json::parse(read(w / "r.json"));
}

/// next.jsonl and twice.jsonl, and adapters of other ranks, scales and sites: next/, twice/.
void make_foreign(const workplace& w) {
  make_files(w);
  const auto config = tiny_config();
  rng random(7);
  const auto save = [&](const char* name, std::size_t rank, float alpha,
                        std::span<const model::projection> sites) {
    auto made = train::initial_adapter(train::lora_shapes(config, rank, alpha, sites), random);
    for (std::size_t i = 0; i < made.size(); ++i) {
      const auto b = made.b(i);
      for (std::size_t j = 0; j < b.size(); ++j) b.data[j] = 0.3F * random.normal();
    }
    adapter::peft_info info;
    info.base_model = "model.bin";
    REQUIRE(adapter::save_peft((w / name).string(), made, info));
  };
  using model::projection;
  save("next", 2, 4, std::array{projection::q, projection::down});
  save("twice", 3, 3, std::array{projection::q, projection::up});
  for (const char* task : {"next", "twice"}) {
    std::ifstream all(w / "samples.jsonl");
    std::string mine;
    for (std::string line; std::getline(all, line);) {
      if (line.find("\"task\": \"" + std::string(task)) != std::string::npos) mine += line + "\n";
    }
    write(w / (std::string(task) + ".jsonl"), mine);
  }
}

const std::string import_both =
    "pool import --model model.bin --adapter next --adapter twice --out pool.safetensors ";
const std::string with_texts = import_both + "--samples next.jsonl --samples twice.jsonl ";

void require_good(const outcome& o) {
  INFO(o.out << o.err);
  REQUIRE(o.status == 0);
}

}  // namespace

TEST_CASE("adapters that differ become a pool, and each stays what it was") {
  const workplace w;
  make_foreign(w);
  require_good(w.run(with_texts + "--json r.json"));
  const auto report = report_of(w);
  CHECK(report["names"] == nlohmann::json({"next", "twice"}));
  CHECK(report["sites"] == 6);  // q, down, up of two layers
  CHECK(report["padded"] == 2);
  CHECK(report["index"][0]["samples"] == 20);
  CHECK(report["index"][0]["nearest_own"].get<double>() > 0.9);

  const auto pool = adapter::load_pool<float>((w / "pool.safetensors").string());
  REQUIRE(pool);
  CHECK(pool->info().matcher == "cosine_softmax");
  CHECK(pool->info().embedding == "error_pooling");
  for (const auto& shape : pool->shapes()) {
    CHECK(shape.rank == (shape.module.ends_with("down_proj") ? 2 : 3));
    CHECK(shape.scale == (shape.module.ends_with("up_proj") ? 1.0F : 2.0F));
  }

  // One adapter of the pool says what the directory says. Its B took the quotient of the scales.
  const auto logits = [&](const std::string& adapter) {
    require_good(
        w.run("logits --model model.bin --ids 1,40,41 --out l.safetensors --adapter " + adapter));
    const auto file = io::safetensors::open((w / "l.safetensors").string());
    std::vector<float> values(3 * tiny_config().vocab);
    REQUIRE(io::read_matrix(*file, "logits",
                            matrix_view<float>(values.data(), 3, tiny_config().vocab)));
    return values;
  };
  const std::array<std::string, 2> weights{"1,0", "0,1"}, names{"next", "twice"};
  for (std::size_t k = 0; k < 2; ++k) {
    require_good(w.run("blend --pool pool.safetensors --weights " + weights[k] + " --out again"));
    const auto one = logits(names[k]), two = logits("again");
    for (std::size_t j = 0; j < one.size(); ++j) CHECK(one[j] == Approx(two[j]).margin(1e-4));
  }

  // The user's samples choose the adapter that was imported with such texts.
  write(w / "mine.jsonl", R"({"prompt": "twice 31", "completion": "62"})");
  require_good(
      w.run("customize --model model.bin --pool pool.safetensors --samples mine.jsonl --out mine "
            "--json r.json"));
  CHECK(report_of(w)["weights"][1].get<double>() > 0.9);
}

TEST_CASE("a search refines the weights on the samples") {
  const workplace w;
  make_foreign(w);
  require_good(w.run(with_texts));
  write(w / "mine.jsonl", R"({"prompt": "next 31", "completion": "32"})");
  const std::string search =
      "customize --model model.bin --pool pool.safetensors --samples mine.jsonl --out mine "
      "--search 40 --l1 0.01 --json r.json";
  require_good(w.run(search));
  const auto once = report_of(w);
  CHECK(once["search"]["evaluations"].get<int>() <= 40);
  CHECK(once["search"]["loss"].get<double>() < once["search"]["start_loss"].get<double>());
  CHECK(once["weights"] != once["search"]["start_weights"]);
  require_good(w.run(search));
  CHECK(report_of(w)["weights"] == once["weights"]);

  // A pool that was aligned for factor-wise blending: its policy takes no negative weights.
  require_good(w.run(with_texts + "--align"));
  const auto refused = w.run(search);
  CHECK(refused.status == 1);
  CHECK(refused.err ==
        "crayon: pool.safetensors: --search tries negative weights, which the linear blend does "
        "not take; --policy concat does\n");
  require_good(w.run(search + " --policy concat"));
}

TEST_CASE("every way to an index imports and customizes") {
  const workplace w;
  make_foreign(w);
  write(w / "mine.jsonl", R"({"prompt": "next 31", "completion": "32"})");
  for (const std::string how :
       {"--embedding mean_pooling --space centre", "--embedding last_token --space zca",
        "--space pca --directions 5 --shrinkage 0.3", "--centroids 3", "--matcher centroid",
        "--centroids 2 --top-k 1 --embedding mean_pooling", "--embedding mean_pooling --layer 1",
        "--align", "--spare 2"}) {
    INFO(how);
    require_good(w.run(with_texts + how + " --json r.json"));
    if (how == "--align") {
      const auto aligned = report_of(w)["alignment"];
      CHECK(aligned["spread_after"].get<double>() < aligned["spread_before"].get<double>());
    }
    require_good(
        w.run("customize --model model.bin --pool pool.safetensors --samples mine.jsonl --out mine "
              "--json r.json"));
    CHECK(report_of(w)["weights"][0].get<double>() > 0.5);
  }
  // Without texts the weights themselves say which input they are for.
  require_good(w.run(import_both + "--json r.json"));
  CHECK(report_of(w)["matcher"] == "arrow");
  CHECK(report_of(w)["tau"] == 1);  // PEFT's defaults
  CHECK(report_of(w)["top_k"] == 3);
  CHECK(report_of(w)["index_dim"] == 2 * (16 + 24 + 16));
  require_good(
      w.run("customize --model model.bin --pool pool.safetensors --samples mine.jsonl --out mine "
            "--json r.json"));
  const std::vector<double> weights = report_of(w)["weights"];
  CHECK(weights[0] + weights[1] == Approx(1));

  // Each site is blended by its own: sum_k w_k s_k B_k A_k of the adapters as they were.
  const auto per_site = report_of(w)["site_weights"];
  const auto mine = adapter::load_peft<float>((w / "mine").string());
  REQUIRE(mine);
  REQUIRE(per_site.size() == mine->adapter.size());
  std::vector<adapter::lora_adapter<float>> theirs;
  for (const char* name : {"next", "twice"}) {
    theirs.push_back(adapter::load_peft<float>((w / name).string())->adapter);
  }
  const auto product = [](const factors_view<float>& f, std::size_t r, std::size_t c) {
    double sum = 0;
    for (std::size_t j = 0; j < f.rank(); ++j) {
      sum += double{f.b.row(r)[j]} * double{f.a.row(j)[c]};
    }
    return sum * double{f.scale};
  };
  double mean = 0, spread = 0;
  for (const auto& site : per_site) {
    const std::string module = site["site"];
    const auto made = mine->adapter.factors(*mine->adapter.find(module));
    for (const auto& [r, c] : {std::pair(0U, 1U), std::pair(3U, 2U), std::pair(7U, 9U)}) {
      double expected = 0;
      for (std::size_t k = 0; k < 2; ++k) {
        const auto at = theirs[k].find(module);
        if (at) {
          expected += site["weights"][k].get<double>() * product(theirs[k].factors(*at), r, c);
        }
      }
      CHECK(product(made, r, c) == Approx(expected).margin(1e-6));
    }
    mean += site["weights"][0].get<double>() / static_cast<double>(per_site.size());
    spread = std::max(spread, std::abs(site["weights"][0].get<double>() - weights[0]));
  }
  CHECK(mean == Approx(weights[0]));
  CHECK(spread > 0.01);
}

TEST_CASE("tau, top_k and layer are chosen by the loss of held-out samples") {
  const workplace w;
  make_foreign(w);
  require_good(w.run(with_texts + "--tau 3"));
  require_good(
      w.run("pool tune --model model.bin --pool pool.safetensors --data samples.jsonl "
            "--samples next.jsonl --samples twice.jsonl --layer 1,2 --tau 0.05,0.5 --top-k 1 "
            "--users 4 --per-user 3 --out tuned.safetensors --json r.json"));
  const auto report = report_of(w);
  REQUIRE(report["curve"].size() == 6);  // for each layer two temperatures, then one k
  double least = report["curve"][0]["loss"];
  for (const auto& point : report["curve"]) least = std::min(least, point["loss"].get<double>());
  CHECK(report["best"]["loss"] == least);
  const auto tuned = adapter::load_pool<float>((w / "tuned.safetensors").string());
  REQUIRE(tuned);
  CHECK(tuned->info().tau == report["best"]["tau"].get<float>());
  CHECK(tuned->info().top_k == report["best"]["top_k"].get<std::size_t>());
  CHECK(tuned->info().layer == report["best"]["layer"].get<std::size_t>());
  // The adapters' bytes are those of the pool, in its type.
  const auto before = adapter::pool_contents::open((w / "pool.safetensors").string());
  const auto after = adapter::pool_contents::open((w / "tuned.safetensors").string());
  REQUIRE(before);
  REQUIRE(after);
  CHECK(after->type() == before->type());
  CHECK(after->slots() == before->slots());
  CHECK(std::equal(before->factor(0).begin(), before->factor(0).end(), after->factor(0).begin(),
                   after->factor(0).end()));

  // Without the adapters' samples the index stays, and the same seed gives the same curve.
  const std::string tau_alone =
      "pool tune --model model.bin --pool pool.safetensors --data samples.jsonl --tau 0.05 "
      "--top-k 1 --users 3 --per-user 2 --json r.json";
  require_good(w.run(tau_alone));
  const auto once = report_of(w);
  CHECK(once["curve"].size() == 2);
  require_good(w.run(tau_alone));
  CHECK(report_of(w)["curve"] == once["curve"]);
}

TEST_CASE("imports and choices that cannot be made say why") {
  const workplace w;
  make_foreign(w);
  const auto refused = [&](const std::string& arguments, const std::vector<std::string>& words) {
    const auto done = w.run(arguments);
    INFO(arguments << "\n" << done.err);
    CHECK(done.status == 1);
    CHECK(std::count(done.err.begin(), done.err.end(), '\n') == 1);
    for (const auto& word : words) CHECK(done.err.find(word) != std::string::npos);
  };
  refused(import_both + "--samples next.jsonl", {"1 files of samples for 2 adapters"});
  refused(with_texts + "--tau 1e-40", {"tau is 9.99995e-41"});
  refused(with_texts + "--layer 3", {"layer 3", "2"});
  const auto ignored = w.run(import_both + "--matcher centroid");
  CHECK(ignored.status == 2);
  CHECK(ignored.err.find("--matcher requires --samples") != std::string::npos);
  refused(import_both + "--adapter none", {"none"});
  refused(import_both + "--samples next.jsonl --samples missing.jsonl", {"missing.jsonl"});
  auto shapes = train::lora_shapes(tiny_config(), 2, 4, std::array{model::projection::q});
  shapes[0].module = "model.layers.7.self_attn.q_proj";
  REQUIRE(adapter::save_peft((w / "deep").string(), adapter::lora_adapter<float>(shapes), {}));
  refused("pool import --model model.bin --adapter deep --out p", {"deep", "model.layers.7"});

  for (const std::string index : {"", "--samples next.jsonl --samples twice.jsonl --centroids 2"}) {
    require_good(w.run(import_both + index));
    refused(
        "pool replace --pool pool.safetensors --name next --adapter next --samples next.jsonl "
        "--model model.bin",
        {"pool.safetensors", "import the adapters again"});
  }

  require_good(w.run(import_both));
  const std::string tune =
      "pool tune --model model.bin --pool pool.safetensors --data samples.jsonl ";
  refused(tune, {"pool.safetensors", "no index vectors of texts"});
  refused(tune + "--layer 1", {"--samples"});
  refused(tune + "--samples next.jsonl", {"1 files of samples", "2 adapters"});
  refused(tune + "--tau -1 --samples next.jsonl --samples twice.jsonl", {"tau is -1"});
  write(w / "one.jsonl", R"({"prompt": "a", "completion": "b"})");
  refused(
      "pool tune --model model.bin --pool pool.safetensors --data one.jsonl --samples "
      "next.jsonl --samples twice.jsonl",
      {"one.jsonl", "too few"});
}
