// SPDX-License-Identifier: MIT
// crayon blend: every policy, the report, the error target and the alignment.
#include "program.hpp"

#include <nlohmann/json.hpp>

#include <crayon/adapter/pool_file.hpp>

#include <string>
#include <vector>

using namespace crayon;
using namespace crayon::cli_test;

namespace {

using nlohmann::json;

/// Two adapters of rank 2 as a/ and b/.
void make_adapters(const workplace& w) {
  for (const auto& [name, seed] : {std::pair("a", 5U), std::pair("b", 6U)}) {
    REQUIRE(adapter::save_peft((w / name).string(), random_adapter(tiny_config(), seed), {}));
  }
}

/// The report of a blend of both with these options.
json blended(const workplace& w, const std::string& options) {
  const auto done =
      w.run("blend --adapter a:0.6 --adapter b:0.4 --out out --report --json r.json " + options);
  INFO(options << "\n" << done.err);
  REQUIRE(done.status == 0);
  CHECK(done.out.find("total") != std::string::npos);
  return json::parse(read(w / "r.json"));
}

double total(const json& report) {
  return report["errors"]["relative"].get<double>();
}

}  // namespace

TEST_CASE("blend runs every policy and reports its error", "[blend]") {
  const workplace w;
  make_adapters(w);
  for (const std::string policy :
       {"concat", "recompress", "linear", "ties", "dare", "dare_ties", "magnitude_prune",
        "knots_ties", "knots_dare", "knots_dare_ties", "knots_magnitude_prune", "peft_linear",
        "peft_ties", "peft_dare_linear", "peft_dare_ties", "peft_magnitude_prune"}) {
    const json report = blended(w, "--policy " + policy);
    CHECK(report["policy"] == policy);
    CHECK(report["sites"] == 4);
    REQUIRE(report["errors"]["sites"].size() == 4);
    const double error = total(report);
    if (policy == "concat") {
      CHECK(error < 1e-6);
    } else {
      CHECK(error > 0.01);  // rank 2 does not hold the sum of two adapters of rank 2
    }
    CHECK(report["least_rank"] == (policy == "concat" ? 4 : 2));
    REQUIRE(adapter::load_peft<float>((w / "out").string()));
  }
  CHECK(total(blended(w, "--policy recompress")) < total(blended(w, "--policy linear")));
  CHECK(total(blended(w, "--policy recompress --rank 1")) >
        total(blended(w, "--policy recompress --rank 3")));
  CHECK(total(blended(w, "--policy recompress --rank 4")) < 1e-5);
}

TEST_CASE("blend keeps an error target with the smallest ranks", "[blend]") {
  const workplace w;
  make_adapters(w);
  const json coarse = blended(w, "--policy recompress --error 0.5");
  const json fine = blended(w, "--policy recompress --error 0.001");
  CHECK(total(coarse) <= 0.5);
  CHECK(total(fine) <= 0.001);
  CHECK(coarse["parameters"].get<int>() < fine["parameters"].get<int>());
  const auto both =
      w.run("blend --adapter a --adapter b --out o --policy recompress --rank 2 --error 0.1");
  CHECK(both.status == 2);
}

TEST_CASE("blend aligns adapters and says what that does to linear", "[blend]") {
  const workplace w;
  make_adapters(w);
  const json plain = blended(w, "--policy linear");
  const json aligned = blended(w, "--policy linear --align");
  const json& a = aligned["alignment"];
  CHECK(a["linear_error_before"].get<double>() == Approx(total(plain)).epsilon(1e-6));
  CHECK(a["linear_error_after"].get<double>() == Approx(total(aligned)).epsilon(1e-6));
  CHECK(a["spread_after"].get<double>() < a["spread_before"].get<double>());
  // The exact sum of the aligned ones is that of the ones on disk.
  CHECK(total(blended(w, "--policy concat --align")) < 1e-6);
}

TEST_CASE("blend takes the R factors that a pool keeps, and gives the same", "[blend]") {
  const workplace w;
  const std::vector adapters{random_adapter(tiny_config(), 5), random_adapter(tiny_config(), 6)};
  const auto pool = adapter::pool<float>::build(adapters, matrix_view<const float>{}, {});
  REQUIRE(pool);
  REQUIRE(adapter::save_pool((w / "p").string(), *pool));
  const auto blended_from_pool = [&](const std::string& more) {
    const auto done = w.run("blend --pool p --weights 0.6,-0.4 --out out --json r.json " + more);
    INFO(done.err);
    REQUIRE(done.status == 0);
    return std::pair(read(w / "out" / "adapter_model.safetensors"),
                     json::parse(read(w / "r.json"))["kept_r_factors"].get<bool>());
  };
  const std::string policies[] = {"--policy recompress --error 0.2", "--policy ties"};
  std::vector<std::string> computed;
  for (const auto& policy : policies) {
    const auto [bytes, kept] = blended_from_pool(policy);
    CHECK_FALSE(kept);
    computed.push_back(bytes);
  }
  REQUIRE(w.run("pool cores --pool p").status == 0);
  for (std::size_t i = 0; i < computed.size(); ++i) {
    const auto [bytes, kept] = blended_from_pool(policies[i]);
    CHECK(kept);
    CHECK(bytes == computed[i]);
  }
  CHECK_FALSE(
      blended_from_pool("--policy recompress --align").second);  // they are of another gauge
}

TEST_CASE("an option that the policy does not use is wrong usage", "[blend]") {
  const workplace w;
  make_adapters(w);
  const std::pair<const char*, const char*> unused[] = {
      {"concat", "--rank 3"},          {"linear", "--rank 3"},
      {"peft_ties", "--rank 3"},       {"ties", "--error 0.1"},
      {"recompress", "--density 0.5"}, {"dare", "--frequency-sign"},
      {"magnitude_prune", "--seed 3"}, {"peft_linear", "--density 0.5"},
      {"knots_ties", "--seed 0"}};
  for (const auto& [policy, option] : unused) {
    const auto done = w.run(std::string("blend --adapter a --adapter b --out o --policy ") +
                            policy + " " + option);
    INFO(policy << " " << option);
    CHECK(done.status == 2);
    const std::string text(option), flag = text.substr(0, text.find(' '));
    CHECK(done.err.find(flag + " is not used by the policy " + policy) != std::string::npos);
  }
  CHECK(w.run("blend --adapter a --adapter b --out o --rank 3").status == 2);  // concat
  for (const char* used : {"ties --rank 3 --density 0.4 --frequency-sign",
                           "knots_dare_ties --rank 3 --density 0.4 --frequency-sign --seed 4",
                           "peft_dare_ties --density 0.4 --frequency-sign --seed 4"}) {
    CHECK(w.run(std::string("blend --adapter a --adapter b --out o --policy ") + used).status == 0);
  }
}

TEST_CASE("a pool is blended as it was made for, unless another policy is named", "[blend]") {
  const workplace w;
  const std::vector adapters{random_adapter(tiny_config(), 5), random_adapter(tiny_config(), 6)};
  const auto save = [&](const std::string& policy) {
    adapter::pool_info info;
    info.blend = policy;
    const auto pool = adapter::pool<float>::build(adapters, matrix_view<const float>{}, info);
    REQUIRE(pool);
    REQUIRE(adapter::save_pool((w / "p").string(), *pool));
  };
  const std::string run = "blend --pool p --weights 0.6,0.4 --out out --json r.json ";
  const auto report = [&] { return json::parse(read(w / "r.json")); };
  save("linear");
  auto done = w.run(run);
  REQUIRE(done.status == 0);
  CHECK(done.err.empty());
  CHECK(report()["policy"] == "linear");
  CHECK(report()["least_rank"] == 2);
  done = w.run(run + "--policy concat");
  REQUIRE(done.status == 0);
  CHECK(done.err == "crayon: p was made for the policy linear, --policy concat is used instead\n");
  CHECK(report()["policy"] == "concat");
  CHECK(report()["pool_policy"] == "linear");
  done = w.run(run + "--rank 3");
  CHECK(done.status == 1);
  CHECK(done.err ==
        "crayon: p: made for the policy linear, which does not use --rank; --policy names "
        "another\n");
  save("activations");  // the exact sum too
  done = w.run(run);
  REQUIRE(done.status == 0);
  CHECK(report()["policy"] == "concat");
  CHECK(w.run(run + "--policy concat").err.empty());
  save("largest");
  done = w.run(run);
  CHECK(done.status == 1);
  CHECK(done.err.find("largest") != std::string::npos);
  CHECK(w.run(run + "--policy concat").status == 0);
}

TEST_CASE("what blend refuses names the directories", "[blend]") {
  const workplace w;
  make_adapters(w);
  rng random(9);
  constexpr std::array sites{model::projection::q, model::projection::down};
  REQUIRE(adapter::save_peft(
      (w / "other").string(),
      train::initial_adapter(train::lora_shapes(tiny_config(), 3, 6, sites), random), {}));
  const std::pair<const char*, std::vector<const char*>> refused[] = {
      {"--adapter a:0.5 --adapter b:-0.5 --policy linear", {"weight of b is -0.5"}},
      {"--adapter a --adapter other --policy peft_linear", {"in a", "in other"}},
      {"--adapter a --adapter other --policy linear", {"other", "rank"}},
      {"--adapter a --adapter other --align --policy linear", {"other has", "a has"}}};
  for (const auto& [options, parts] : refused) {
    const auto done = w.run(std::string("blend --out o ") + options);
    INFO(options << ": " << done.err);
    CHECK(done.status == 1);
    for (const char* part : parts) CHECK(done.err.find(part) != std::string::npos);
    CHECK(done.err.find("adapter 0") == std::string::npos);
    CHECK(done.err.find("adapter 1") == std::string::npos);
  }
  // Weight zero: neither its rank nor its gauge matters.
  for (const char* more : {"", " --align"}) {
    CHECK(w.run(std::string("blend --out o --adapter a:0.5 --adapter other:0 --adapter b:0.5 "
                            "--policy linear") +
                more)
              .status == 0);
  }
}

TEST_CASE("blend writes the type of its sources, or the one it is told", "[blend]") {
  const workplace w;
  make_adapters(w);
  const auto save = [&](const char* name, dtype type) {
    REQUIRE(adapter::save_peft((w / name).string(), random_adapter(tiny_config(), 7), {}, type));
  };
  save("half", dtype::f16);
  save("half2", dtype::f16);
  save("brain", dtype::bf16);
  const auto type_of = [&](const std::string& options) {
    const auto done = w.run("blend --out out --json r.json " + options);
    INFO(done.err);
    REQUIRE(done.status == 0);
    const auto loaded = adapter::load_peft<float>((w / "out").string());
    REQUIRE(loaded);
    CHECK(json::parse(read(w / "r.json"))["dtype"] == name(loaded->info.stored));
    return loaded->info.stored;
  };
  CHECK(type_of("--adapter half:0.5 --adapter half2:0.5") == dtype::f16);
  CHECK(type_of("--adapter half:0.5 --adapter brain:0.5") == dtype::f32);
  CHECK(type_of("--adapter half:0.5 --adapter a:0.5") == dtype::f32);
  CHECK(type_of("--adapter a:0.5 --adapter b:0.5 --dtype bf16") == dtype::bf16);
  CHECK(type_of("--adapter half:0.5 --adapter half2:0.5 --dtype f32") == dtype::f32);
  const auto pool = adapter::pool<bf16>::build(
      std::vector(2, adapter::lora_adapter<bf16>({{"model.layers.0.self_attn.q_proj", 4, 4, 2}})),
      {}, {});
  REQUIRE(pool);
  REQUIRE(adapter::save_pool((w / "p").string(), *pool));
  CHECK(type_of("--pool p --weights 1,1") == dtype::bf16);
  CHECK(w.run("blend --out out --adapter half --dtype f64").status == 2);
}
