// SPDX-License-Identifier: MIT
// crayon route: its figures are those of tests/router/fixtures/make_evaluation.py.
#include "program.hpp"

#include <nlohmann/json.hpp>

#include <map>
#include <string>

using namespace crayon::cli_test;

namespace {

using route_json = nlohmann::json;

const std::string router_fixtures = CRAYON_SOURCE_DIR "/tests/router/fixtures/";

std::map<std::string, double> route_expected() {
  std::ifstream file(router_fixtures + "evaluation.txt");
  std::map<std::string, double> values;
  std::string key;
  double value = 0;
  while (file >> key >> value) values[key] = value;
  REQUIRE(!values.empty());
  return values;
}

/// The report of one score.
route_json report_of(const workplace& w, const std::string& name) {
  const auto report = route_json::parse(read(w / "r.json"));
  for (const auto& one : report["scores"]) {
    if (one["name"] == name) return one;
  }
  FAIL(name);
  return {};
}

}  // namespace

TEST_CASE("route eval reports what independent scripts compute", "[route]") {
  const workplace w;
  const auto expected = route_expected();
  const std::string rows =
      "route eval --scores " + router_fixtures + "evaluation.csv --json r.json ";
  auto done = w.run(rows + "--fit-share 0 --score risk --score tied --draws 40 --svg p.svg");
  INFO(done.err);
  REQUIRE(done.status == 0);
  CHECK(done.out.find("random") != std::string::npos);
  CHECK(done.out.find("than random") != std::string::npos);
  for (const std::string name : {"risk", "tied"}) {
    const auto one = report_of(w, name);
    for (const std::string metric :
         {"apgr", "auroc", "augrc", "near_auroc", "near_fpr95", "far_auroc", "far_fpr95"}) {
      CAPTURE(name, metric);
      CHECK(one[metric]["value"].get<double>() ==
            Approx(expected.at(name + "." + metric)).epsilon(1e-9));
      CHECK(one[metric]["interval"][0] < one[metric]["interval"][1]);
    }
    CHECK(one["cpt80"]["value"].get<double>() == Approx(expected.at(name + ".cpt80")).margin(6e-6));
    CHECK(one["curve"].size() > 2);
  }
  CHECK(report_of(w, "oracle")["apgr"]["value"] > 1);
  const std::string plot = read(w / "p.svg");
  CHECK(plot.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  CHECK(plot.ends_with("</svg>\n"));
  CHECK(plot.find("href") == std::string::npos);  // nothing from elsewhere
  CHECK(plot.find(">tied</text>") != std::string::npos);

  // Maps and thresholds come from the rows that the column says.
  done = w.run(rows + "--score probability:confidence --score risk --draws 0 --call-rate 0.3");
  INFO(done.err);
  REQUIRE(done.status == 0);
  const auto p = report_of(w, "probability"), risk = report_of(w, "risk");
  CHECK(p["ece"]["value"].get<double>() == Approx(expected.at("ece15")).epsilon(1e-5));
  CHECK(p["ece_temperature"]["value"].get<double>() ==
        Approx(expected.at("temperature_ece15")).epsilon(1e-4));
  CHECK(risk["ece_isotonic"]["value"].get<double>() ==
        Approx(expected.at("risk.isotonic_ece15")).epsilon(1e-6));
  CHECK(risk["ece_platt"]["value"].get<double>() ==
        Approx(expected.at("risk.platt_ece15")).epsilon(1e-3));
  CHECK(risk.count("ece") == 0);  // not a probability
  CHECK(risk["realised"]["call_rate"].get<double>() == Approx(0.3).margin(0.1));
  CHECK(risk["realised"]["groups"].size() == 3);
  CHECK(report_of(w, "kNN")["is"] == "baseline");
}

TEST_CASE("route eval: whole groups are split and drawn", "[route]") {
  const workplace w;
  std::string csv = "margin,device_ok,server_ok,group\n";
  for (int i = 0; i < 60; ++i) {
    csv += std::to_string(i % 7) + "," + std::to_string(i % 3 != 0) + ",1,g" +
           std::to_string(i / 10) + "\n";
  }
  write(w / "s.csv", csv);
  const auto done = w.run("route eval --scores s.csv --by-group --draws 20 --json r.json");
  INFO(done.err);
  REQUIRE(done.status == 0);
  const auto report = route_json::parse(read(w / "r.json"));
  CHECK(report["rows"]["judged"] == 30);
  CHECK(report_of(w, "margin")["realised"]["groups"].size() == 3);
}

TEST_CASE("route eval: what is wrong with a file is said with its line and column", "[route]") {
  const workplace w;
  const auto fault = [&](const std::string& csv, const std::string& options) {
    write(w / "s.csv", csv);
    const auto done = w.run("route eval --scores s.csv " + options);
    CHECK(done.status == 1);
    CHECK(done.out.empty());
    return done.err;
  };
  const std::string head = "margin,device_ok,server_ok,scope\n";
  CHECK(fault(head + "0.5,1,0,in\n0.4,maybe,1,in\n", "") ==
        "crayon: s.csv:3: column \"device_ok\" is \"maybe\", expected 0, 1, false or true\n");
  CHECK(fault(head + "nan,1,0,in\n", "") ==
        "crayon: s.csv:2: column \"margin\" is \"nan\", expected a number\n");
  CHECK(fault(head + "0.5,1,0,out\n", "") ==
        "crayon: s.csv:2: column \"scope\" is \"out\", expected in, near or far\n");
  CHECK(fault(head + "0.5,1,0,in\n", "--group kind") ==
        "crayon: s.csv: no column \"kind\"; there are margin device_ok server_ok scope\n");
  CHECK(fault(head + "0.5,1,0,in\n", "--by-group").find("no column of groups") !=
        std::string::npos);
  CHECK(fault("device_ok,server_ok\n1,0\n", "").find("name the scores with --score") !=
        std::string::npos);
  CHECK(w.run("route eval").status == 2);
  CHECK(w.run("route").status == 2);
  CHECK(w.run("route eval --scores missing.csv").status == 1);
}

namespace {

/// 600 queries, right with the probability that margin says. The server is always right.
std::string calibrated_rows() {
  crayon::rng random(9);
  std::string csv = "margin,device_ok,server_ok,split\n";
  for (int i = 0; i < 600; ++i) {
    const float margin = random.uniform();
    csv += std::to_string(margin) + "," + std::to_string(random.uniform() < margin) + ",1," +
           (i % 3 == 0 ? "eval" : "fit") + "\n";
  }
  return csv;
}

}  // namespace

TEST_CASE("route fit writes a router that ask reads, and that holds for its model", "[route]") {
  const workplace w;
  make_files(w);
  write(w / "s.csv", calibrated_rows());
  const std::string fit = "route fit --scores s.csv --model model.bin --json r.json --out R.json ";
  const auto fitted = [&](const std::string& options) {
    const auto done = w.run(fit + options);
    INFO(done.err);
    REQUIRE(done.status == 0);
    return route_json::parse(read(w / "r.json"));
  };

  // P(kept and wrong) at threshold t is (1 - t)^2 / 2: alpha 0.1 is reached at 0.553.
  auto report = fitted("--promise mean --alpha 0.1");
  CHECK(report["queries"] == 400);
  CHECK(report["promise"] == "P(kept and wrong) <= 0.1 in the mean, from 400 queries");
  const double mean = report["threshold"];
  CHECK(mean == Approx(0.553).margin(0.06));
  report = fitted("--promise probability --alpha 0.1 --delta 0.05");
  CHECK(report["threshold"] > mean);  // more is promised, so less is kept
  auto file = route_json::parse(read(w / "R.json"));
  CHECK(file["promise"]["kind"] == "with_confidence");
  CHECK(file["promise"]["signal"] == "margin");
  CHECK(file["bound_to"]["adapter"] == "none");
  CHECK(file["bound_to"]["server"] == "any");
  CHECK(report["other rows"]["call_rate"] > 0.4);
  report = fitted("--promise probability --alpha 0.3 --of-kept --after-prefill");
  file = route_json::parse(read(w / "R.json"));
  CHECK(file["promise"]["share"] == "of_kept");
  CHECK(file["promise"]["seen"] == "after_prefill");

  // Nothing can be promised.
  CHECK(w.run(fit + "--promise mean --alpha 0.001").err.find("it takes 999") != std::string::npos);
  report = fitted("--promise mean --alpha 0.001 --all-to-server");
  CHECK(report["threshold"].is_null());
  CHECK(report["fitted on"]["call_rate"] == 1);

  report = fitted("--promise none --call-rate 0.25 --adapter adapter");
  CHECK(report["promise"].is_null());
  CHECK(report["fitted on"]["call_rate"].get<double>() == Approx(0.25));
  file = route_json::parse(read(w / "R.json"));
  CHECK(file["thresholds"][0]["threshold"] == report["threshold"]);
  const std::string ask =
      "ask --model model.bin --router R.json --server http://127.0.0.1:1/v1 "
      "--retries 0 -n 2 next ";
  auto done = w.run(ask + "--adapter adapter");
  INFO(done.err);
  CHECK(done.status == 0);
  done = w.run(ask);
  CHECK(done.status == 1);
  CHECK(done.err.find("fitted to the adapter") != std::string::npos);
}

TEST_CASE("route fit refuses what it cannot do", "[route]") {
  const workplace w;
  make_files(w);
  write(w / "s.csv", calibrated_rows());
  const auto fault = [&](const std::string& options) {
    const auto done = w.run("route fit --scores s.csv --model model.bin --out R.json " + options);
    CHECK(done.status != 0);
    CHECK_FALSE(fs::exists(w / "R.json"));
    return done.err;
  };
  CHECK(fault("--promise mean --score server_ok").find("is no signal") != std::string::npos);
  CHECK(fault("--promise mean --score margin --score server_ok").find("2 scores") !=
        std::string::npos);
  CHECK(fault("--promise mean --of-kept").find("--of-kept") != std::string::npos);
  CHECK(fault("--promise mean --call-rate 0.5").find("--call-rate") != std::string::npos);
  CHECK(fault("--promise always").find("always") != std::string::npos);
  CHECK(fault("").find("--promise") != std::string::npos);
  CHECK(fault("--promise mean --alpha 0").find("above 0") != std::string::npos);
}
