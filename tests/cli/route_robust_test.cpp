// SPDX-License-Identifier: MIT
// crayon route on files that nobody would write by hand.
#include <crayon/core/utf8.hpp>

#include "program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <string>

using namespace crayon::cli_test;

namespace {

using robust_json = nlohmann::json;

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

/// Every "<" begins a tag and every "&" a name: what is left of the names is text.
void check_xml(const std::string& svg) {
  CHECK(crayon::valid_utf8(svg) == svg);
  CHECK(svg.find("]]>") == std::string::npos);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.find("inf") == std::string::npos);
  for (const char c : svg) CHECK((static_cast<unsigned char>(c) >= ' ' || c == '\n'));
  for (auto at = svg.find('&'); at != std::string::npos; at = svg.find('&', at + 1)) {
    const std::string name = svg.substr(at, 4);
    CHECK((name == "&lt;" || name == "&gt;" || svg.substr(at, 5) == "&amp;"));
  }
  for (auto at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    CHECK((svg[at + 1] == '/' || (svg[at + 1] >= 'a' && svg[at + 1] <= 'z')));
  }
}

/// 80 rows of scores s0, s1, ...
std::string many_scores(int scores) {
  std::string csv = "device_ok,server_ok";
  for (int s = 0; s < scores; ++s) csv += ",s" + std::to_string(s);
  for (int i = 0; i < 80; ++i) {
    csv += "\n" + std::to_string(i % 3 != 0) + "," + std::to_string(i % 5 != 0);
    for (int s = 0; s < scores; ++s) csv += "," + std::to_string((i * (s + 3)) % 17);
  }
  return csv + "\n";
}

}  // namespace

TEST_CASE("route eval: a plot is XML, whatever the scores are called", "[route]") {
  const workplace w;
  const std::string odd = "a]]><b>&\xFF\xC3(\x01\xEF\xBF\xBF, \"q\"";
  const std::string quoted = "\"a]]><b>&\xFF\xC3(\x01\xEF\xBF\xBF, \"\"q\"\"\"";
  const std::string endless(500, 'x');
  std::string csv = quoted + "," + endless + ",device_ok,server_ok\n";
  for (int i = 0; i < 60; ++i) {
    csv += std::to_string(i % 7) + "," + std::to_string(i % 5) + "," + std::to_string(i % 3 != 0) +
           ",1\n";
  }
  write(w / "s.csv", csv);
  const auto done =
      w.run("route eval --scores s.csv --draws 0 --svg p.svg --json r.json --score '" + odd +
            "' --score " + endless);
  INFO(done.err);
  REQUIRE(done.status == 0);
  const std::string svg = read(w / "p.svg");
  check_xml(svg);
  CHECK(svg.find(">a]]&gt;&lt;b&gt;&amp;\xEF\xBF\xBD\xEF\xBF\xBD(, \"q\"</text>") !=
        std::string::npos);
  CHECK(svg.find(">" + std::string(23, 'x') + "\xE2\x80\xA6</text>") != std::string::npos);
  CHECK_NOTHROW(robust_json::parse(read(w / "r.json")));
}

TEST_CASE("route eval: a legend of 40 scores is inside of the plot", "[route]") {
  const workplace w;
  write(w / "s.csv", many_scores(40));
  std::string scores;
  for (int s = 0; s < 40; ++s) scores += " --score s" + std::to_string(s);
  const auto done = w.run("route eval --scores s.csv --draws 0 --svg p.svg" + scores);
  INFO(done.err);
  REQUIRE(done.status == 0);
  const std::string svg = read(w / "p.svg");
  check_xml(svg);
  CHECK(count_of(svg, "<polyline") == 44);  // and random, kNN, two bounds
  double height = 0, lowest = 0;
  REQUIRE(std::sscanf(svg.c_str() + svg.find("viewBox"), "viewBox=\"0 0 720 %lf\"", &height) == 1);
  for (auto at = svg.find(" y=\""); at != std::string::npos; at = svg.find(" y=\"", at + 1)) {
    lowest = std::max(lowest, std::stod(svg.substr(at + 4)));
  }
  CHECK(lowest > 500);
  CHECK(lowest < height);
}

TEST_CASE("route eval: numbers that a plot or a score cannot hold are refused", "[route]") {
  const workplace w;
  const std::string head = "margin,device_ok,server_ok,server_cost,length\n0.5,1,0,1,2\n";
  const auto fault = [&](const std::string& row) {
    write(w / "s.csv", head + row + "\n");
    const auto done = w.run("route eval --scores s.csv --json r.json --svg p.svg");
    CHECK(done.status == 1);
    CHECK(done.out.empty());
    CHECK_FALSE(fs::exists(w / "p.svg"));
    return done.err;
  };
  CHECK(fault("1e39,1,0,1,2") ==
        "crayon: s.csv:3: column \"margin\" is \"1e39\", expected a number of at most 3.4e38\n");
  CHECK(fault("0.4,1,0,1e308,2") ==
        "crayon: s.csv:3: column \"server_cost\" is \"1e308\", expected a cost of at most 1e100\n");
  CHECK(fault("0.4,1,0,1,-1e300") ==
        "crayon: s.csv:3: column \"length\" is \"-1e300\", expected a number of at most 3.4e38\n");

  // At the limit everything is finite.
  std::string csv = "risk,device_ok,server_ok,device_cost,server_cost\n";
  for (int i = 0; i < 90; ++i) {
    csv += std::string(i % 2 == 0 ? "-" : "") + "3.4e38," + std::to_string(i % 3 == 0) +
           ",1,-1e100,1e100\n";
  }
  write(w / "s.csv", csv);
  const auto done = w.run("route eval --scores s.csv --draws 20 --json r.json --svg p.svg");
  INFO(done.err);
  REQUIRE(done.status == 0);
  check_xml(read(w / "p.svg"));
  CHECK(done.out.find("nan") == std::string::npos);
  CHECK(done.out.find("inf") == std::string::npos);
}

TEST_CASE("route eval: what is not defined is a dash", "[route]") {
  const workplace w;
  std::string csv = "margin,device_ok,server_ok,split\n";
  for (int i = 0; i < 40; ++i) {  // the server is no better than the device
    csv += std::to_string(i % 7) + "," + std::to_string(i % 3 == 0) + "," +
           std::to_string(i % 3 == 0) + "," + (i % 2 == 0 ? "fit" : "eval") + "\n";
  }
  write(w / "s.csv", csv);
  const auto done = w.run("route eval --scores s.csv --draws 20 --json r.json --svg p.svg");
  INFO(done.err);
  REQUIRE(done.status == 0);
  CHECK(done.out.find("nan") == std::string::npos);
  CHECK(done.out.find("than random  -\n") != std::string::npos);
  check_xml(read(w / "p.svg"));
}

TEST_CASE("route eval: every row may be a group of its own", "[route]") {
  const workplace w;
  std::string csv = "margin,device_ok,server_ok,group\n";
  for (int i = 0; i < 60000; ++i) {
    csv += std::to_string((i * 7919) % 1000) + "," + std::to_string(i % 3 != 0) + ",1,g" +
           std::to_string(i) + "\n";
  }
  write(w / "s.csv", csv);
  // Rows times groups, and names times names, would be 10^9 steps each.
  const auto done = w.run("route eval --scores s.csv --neighbours 0 --draws 0 --json r.json");
  INFO(done.err);
  REQUIRE(done.status == 0);
  const auto report = robust_json::parse(read(w / "r.json"));
  const auto& realised = report["scores"][0]["realised"];
  CHECK(realised["groups"].size() == 30000);
  double sent = 0;
  for (const auto& one : realised["groups"]) sent += one["call_rate"].get<double>();
  CHECK(sent / 30000 == Approx(realised["call_rate"].get<double>()));
}

TEST_CASE("route fit without rows to fit on promises nothing, or sends everything", "[route]") {
  const workplace w;
  make_files(w);
  write(w / "s.csv", "margin,device_ok,server_ok\n0.5,1,1\n0.4,0,1\n");
  const std::string fit =
      "route fit --scores s.csv --fit-share 0 --model model.bin --json r.json --out R.json ";
  for (const std::string promise : {"mean", "probability"}) {
    CAPTURE(promise);
    auto done = w.run(fit + "--promise " + promise);
    CHECK(done.status == 1);
    CHECK(done.err.find("0 calibration queries") != std::string::npos);
    CHECK_FALSE(fs::exists(w / "R.json"));
    done = w.run(fit + "--all-to-server --promise " + promise);
    INFO(done.err);
    REQUIRE(done.status == 0);
    const auto report = robust_json::parse(read(w / "r.json"));
    CHECK(report["threshold"].is_null());
    CHECK(report["queries"] == 0);
    CHECK(report["other rows"]["call_rate"] == 1);
    done = w.run(
        "ask --model model.bin --router R.json --server http://127.0.0.1:1/v1 --retries 0 "
        "--json a.json -n 2 next");
    INFO(done.err);
    CHECK(done.status == 0);
    const auto asked = robust_json::parse(read(w / "a.json"));
    CHECK(asked["reason"] == "before_answer");
    CHECK(asked["decided_by"] == "margin");
    CHECK(asked["threshold"].is_null());  // nothing is kept
    CHECK(asked["promise"].get<std::string>().find("from 0 queries") != std::string::npos);
    CHECK(asked["under_promise"] == false);
    fs::remove(w / "R.json");
  }
  const auto done = w.run(fit + "--promise none");
  CHECK(done.status == 1);
  CHECK(done.err.find("no points to fit on") != std::string::npos);
}
