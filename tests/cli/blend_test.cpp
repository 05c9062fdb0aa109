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
