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
