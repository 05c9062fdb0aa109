// SPDX-License-Identifier: MIT
// The story of `crayon demo` holds on its assets: what it claims is read from its report.
#include <nlohmann/json.hpp>

#include "program.hpp"

using namespace crayon::cli_test;

TEST_CASE("the demo's story holds", "[demo]") {
  const workplace here;
  const auto done = here.run("demo --questions 520 --json report.json");
  INFO(done.err);
  REQUIRE(done.status == 0);
  const auto report = nlohmann::json::parse(read(here / "report.json"));
  for (const char* than :
       {"base", "one_for_all", "uniform_concat", "uniform_linear", "best_single"}) {
    INFO(than);
    CHECK(report["customized_gain"][than]["low"].get<double>() > 0);
  }
  CHECK(report["accuracy"]["customized"]["questions"] == 520);
  CHECK(report["hybrid"]["gain_over_device"]["low"].get<double>() > 0);
  CHECK(report["hybrid"]["all"]["server_failures"] == 0);
  CHECK(report["server_killed"]["answers"] == report["server_killed"]["questions"]);
  CHECK(report["server_killed"]["device_after_failure"].get<int>() > 0);
  // What it saved is an adapter of that model.
  CHECK(here.run("info crayon-demo/adapter").status == 0);
  const auto asked =
      here.run("generate --model '" CRAYON_SOURCE_DIR
               "/examples/crayon_cli/demo/assets/device' --adapter "
               "crayon-demo/adapter --prompt 'Add 4 days to 11 May.' --temperature 0");
  CHECK(asked.status == 0);
  CHECK(asked.out.find("May 15") != std::string::npos);
}

TEST_CASE("without its assets the demo says what is missing", "[demo]") {
  const workplace here;
  const auto done = here.run("demo --assets nowhere");
  CHECK(done.status == 1);
  CHECK(done.err.find("nowhere/device") != std::string::npos);
}
