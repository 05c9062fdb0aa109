// SPDX-License-Identifier: MIT
#include <crayon/match/domain_file.hpp>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <unistd.h>

#include "../catch.hpp"

namespace {

namespace domain_files {

using namespace crayon;

struct place {
  std::string path = (std::filesystem::temp_directory_path() /
                      ("crayon-domains-" + std::to_string(::getpid()) + ".safetensors"))
                         .string();
  ~place() { std::filesystem::remove(path); }
};

match::domain_file example() {
  match::domain_file f;
  f.space.space.centre = {0.1F, 0.2F, 0.3F, 0.4F, 0.5F, 0.6F};
  f.space.space.projection = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12.5F};
  f.space.means = {1, 0, 0, 1, -1, -1};
  f.space.domain = {0, 1, 0};
  f.space.domains = 2;
  f.space.sharpness = 0.1F;  // no short decimal
  f.base_hash = "0123456789abcdef";
  f.tasks = {"date/day month", "mood", "date/month \"day\""};
  f.domains = {"date", "mood"};
  return f;
}

using metadata = std::map<std::string, std::string>;
using tensors = std::map<std::string, std::vector<std::size_t>>;

}  // namespace domain_files

}  // namespace

TEST_CASE("a space of domains comes back from its file, bit for bit", "[match]") {
  using namespace domain_files;
  const place at;
  const auto made = example();
  REQUIRE(match::save_domains(at.path, made));
  const auto read = match::load_domains(at.path);
  REQUIRE(read);
  CHECK(read->space == made.space);
  CHECK(read->base_hash == made.base_hash);
  CHECK(read->tasks == made.tasks);
  CHECK(read->domains == made.domains);
  CHECK(match::domain_hash(read->space) == match::domain_hash(made.space));
  auto other = made.space;
  other.sharpness = 0.2F;
  CHECK(match::domain_hash(other) != match::domain_hash(made.space));
  other = made.space;
  other.domain = {0, 1, 1};
  CHECK(match::domain_hash(other) != match::domain_hash(made.space));
}

TEST_CASE("a file that is no space of domains is refused with what is wrong", "[match]") {
  using namespace domain_files;
  const place at;
  const auto fault = [&](const std::function<void(metadata&, tensors&)>& change) {
    metadata meta{{"format", "crayon-domains-1"},
                  {"base_hash", "0123"},
                  {"sharpness", "0.5"},
                  {"tasks", R"([["a/x", "a"], ["b", "b"]])"}};
    tensors shapes{{"centre", {1, 6}}, {"projection", {1, 6}}, {"means", {2, 1}}};
    change(meta, shapes);
    const std::vector<float> zeros(64);
    std::vector<io::tensor> all;
    for (const auto& [name, shape] : shapes) {
      all.push_back(
          io::tensor_of(name, matrix_view<const float>(zeros.data(), shape[0], shape[1])));
    }
    REQUIRE(io::write_safetensors(at.path, all, meta));
    const auto read = match::load_domains(at.path);
    return read ? std::string() : read.error().text;
  };
  const auto says = [&](const std::string& text, const std::string& what) {
    INFO(text);
    CHECK(text.starts_with(at.path + ": "));
    CHECK(text.find(what) != std::string::npos);
  };
  CHECK(fault([](auto&, auto&) {}).empty());
  says(fault([](auto& m, auto&) { m["format"] = "pool"; }), "format is \"pool\", expected");
  says(fault([](auto& m, auto&) { m.erase("base_hash"); }), "base_hash is missing");
  for (const char* value : {"", "0", "-1", "1e99", "\"1\"", "x"}) {
    says(fault([&](auto& m, auto&) { m["sharpness"] = value; }), "sharpness is");
  }
  says(fault([](auto& m, auto&) { m["tasks"] = "{}"; }), "not a JSON list");
  says(fault([](auto& m, auto&) { m["tasks"] = "[[1, \"a\"]]"; }), "a task is [1,\"a\"], expected");
  says(fault([](auto& m, auto&) { m["tasks"] = R"([["a", "a"], ["b", "a"]])"; }), "1 domains");
  says(fault([](auto&, auto& t) { t.erase("projection"); }), "projection is missing");
  says(fault([](auto&, auto& t) { t["projection"] = {1, 4}; }), "a multiple of 3");
  says(fault([](auto&, auto& t) {
         t["centre"] = {1, 5};
       }),
       "centre has shape [1, 5], needs [1, 6]");
  says(fault([](auto&, auto& t) { t["means"] = {3, 1}; }), "means has shape [3, 1], needs [2, 1]");
  std::ofstream(at.path) << "no";
  says(match::load_domains(at.path).error().text, "not a safetensors file");
}
