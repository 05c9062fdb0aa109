// SPDX-License-Identifier: MIT
#include <crayon/serve/router_file.hpp>

#include <unistd.h>

#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "../catch.hpp"

namespace {

using namespace crayon::serve;
using crayon::errc;
using crayon::router::rules;
using crayon::router::signal_kind;

struct scratch {
  std::string path = "crayon_router_test_" + std::to_string(::getpid()) + ".json";
  ~scratch() { std::remove(path.c_str()); }
};

}  // namespace

TEST_CASE("a router comes back as it was written", "[serve]") {
  const scratch file;
  router_file written;
  written.policy.combine = rules::combination::all_of;
  written.policy.thresholds = {{signal_kind::margin, 0.1F},
                               {signal_kind::scope_distance, 1.0F / 3},
                               {signal_kind::mean_log_prob, -2.5F}};
  written.bound_to = {"00ff", "", "large"};
  REQUIRE(write_router(file.path, written));
  const auto read = read_router(file.path);
  REQUIRE(read);
  CHECK(read->policy.combine == written.policy.combine);
  REQUIRE(read->policy.thresholds.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(read->policy.thresholds[i].on == written.policy.thresholds[i].on);
    CHECK(read->policy.thresholds[i].threshold == written.policy.thresholds[i].threshold);
  }
  CHECK(read->bound_to == written.bound_to);
}

TEST_CASE("files that are no routers are refused by name", "[serve]") {
  const scratch file;
  const std::vector<std::pair<std::string, std::string>> table{
      {"", "malformed JSON"},
      {"[]", "not a JSON object"},
      {R"({"format":"crayon-router-9"})", "\"crayon-router-9\", expected \"crayon-router-1\""},
      {R"({"format":"crayon-router-1","policy":"some_of"})", "\"some_of\""},
      {R"({"format":"crayon-router-1","policy":"any_of"})", "thresholds is not a list"},
      {R"({"format":"crayon-router-1","policy":"any_of","thresholds":[3]})", "is 3"},
      {R"({"format":"crayon-router-1","policy":"any_of","thresholds":[{"signal":"mood"}]})",
       "unknown signal \"mood\""},
      {R"({"format":"crayon-router-1","policy":"any_of","thresholds":[{"signal":"margin"}]})",
       "margin is null"},
      {R"({"format":"crayon-router-1","policy":"any_of",
           "thresholds":[{"signal":"margin","threshold":1e99}]})",
       "margin is 1e+99"},
  };
  for (const auto& [text, part] : table) {
    REQUIRE(crayon::io::write_text(file.path, text));
    const auto read = read_router(file.path);
    CAPTURE(text);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == errc::bad_format);
    CHECK(read.error().text.find(file.path + ": ") == 0);
    CHECK(read.error().text.find(part) != std::string::npos);
  }
  CHECK(read_router(file.path + ".none").error().code == errc::not_found);
}

TEST_CASE("a threshold that is no number is not written", "[serve]") {
  const scratch file;
  router_file broken;
  broken.policy.thresholds = {{signal_kind::margin, std::numeric_limits<float>::quiet_NaN()}};
  CHECK_FALSE(write_router(file.path, broken));
  CHECK_FALSE(read_router(file.path));
}

TEST_CASE("thresholds of another model are refused", "[serve]") {
  const router_binding bound{"aa", "bb", ""};
  CHECK(check_binding(bound, {"aa", "bb", "any"}, "r.json"));
  const auto other = check_binding(bound, {"cc", "bb", ""}, "r.json");
  REQUIRE_FALSE(other);
  CHECK(other.error().code == errc::mismatch);
  CHECK(other.error().text == "r.json: its thresholds were fitted to the model aa, not to cc");
  CHECK_FALSE(check_binding(bound, {"aa", "", ""}, "r.json"));
  CHECK(check_binding({}, {"aa", "bb", "cc"}, "r.json"));
}
