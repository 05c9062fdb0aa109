// SPDX-License-Identifier: MIT
#include <crayon/io/json.hpp>

#include <string>

#include "../catch.hpp"

using crayon::io::parse_json;

namespace {

std::string nested(std::size_t depth) {
  return std::string(depth, '[') + std::string(depth, ']');
}

}  // namespace

TEST_CASE("JSON of any usual depth is read, brackets in strings do not count") {
  CHECK(parse_json(R"({"a": [1, {"b": "\"]]"}]})")["a"][1]["b"] == "\"]]");
  CHECK(parse_json(nested(crayon::io::deepest_json)).is_array());
  CHECK(parse_json("\"" + std::string(1000, '[') + "\\\\\"").is_string());
  CHECK(parse_json("[" + nested(60) + "," + nested(60) + "]").size() == 2);
}

TEST_CASE("what is not JSON or nested too deeply is discarded") {
  CHECK(parse_json("").is_discarded());
  CHECK(parse_json("{\"a\": ").is_discarded());
  CHECK(parse_json("\"\\").is_discarded());
  CHECK(parse_json(nested(crayon::io::deepest_json + 1)).is_discarded());
  CHECK(parse_json(std::string(1 << 20, '[')).is_discarded());
  CHECK(parse_json<nlohmann::ordered_json>(nested(1 << 20)).is_discarded());
}
