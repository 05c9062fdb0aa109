// SPDX-License-Identifier: MIT
#include <crayon/io/directory.hpp>

#include <string>
#include <vector>

#include "../catch.hpp"
#include "scratch.hpp"

using namespace crayon;
using namespace crayon_test;
using names_t = std::vector<std::string>;

namespace {

names_t names_in(const std::string& path) {
  names_t found;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    found.push_back(entry.path().filename().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

TEST_CASE("a new directory appears complete") {
  const scratch dir;
  auto out = io::directory_writer::create(dir / "new/");
  REQUIRE(out);
  put(out->stage("weights"), "w");
  put(out->stage("config"), "c");
  CHECK_FALSE(std::filesystem::exists(dir / "new"));
  REQUIRE(out->commit());
  CHECK(names_in(dir / "new") == names_t{"config", "weights"});
  CHECK(dir.names() == names_t{"new"});
}

TEST_CASE("files of other names in an existing directory stay") {
  const scratch dir;
  std::filesystem::create_directory(dir / "old");
  put(dir / "old/config", "old c");
  put(dir / "old/weights", "old w");
  put(dir / "old/notes", "mine");
  {
    auto out = io::directory_writer::create(dir / "old");
    REQUIRE(out);
    put(out->stage("weights"), "new w");
    put(out->stage("config"), "new c");
    CHECK(get(dir / "old/config") == "old c");
    REQUIRE(out->commit());
  }
  CHECK(get(dir / "old/config") == "new c");
  CHECK(get(dir / "old/weights") == "new w");
  CHECK(get(dir / "old/notes") == "mine");
  CHECK(names_in(dir / "old") == names_t{"config", "notes", "weights"});
}

TEST_CASE("without commit the directory is as it was") {
  const scratch dir;
  {
    auto out = io::directory_writer::create(dir / "new");
    REQUIRE(out);
    put(out->stage("weights"), "w");
  }
  CHECK(dir.names().empty());
}

TEST_CASE("after a failed move the old files are there, all of them") {
  const scratch dir;
  std::filesystem::create_directory(dir / "old");
  put(dir / "old/weights", "old w");
  put(dir / "old/config", "old c");
  {
    auto out = io::directory_writer::create(dir / "old");
    REQUIRE(out);
    put(out->stage("weights"), "new w");
    static_cast<void>(out->stage("config"));  // never written: its rename fails
    CHECK_FALSE(out->commit());
  }
  CHECK(get(dir / "old/weights") == "old w");
  CHECK(get(dir / "old/config") == "old c");
  CHECK(names_in(dir / "old") == names_t{"config", "weights"});
}

TEST_CASE("a directory where a file should go is an error before anything moves") {
  const scratch dir;
  std::filesystem::create_directories(dir / "old/weights");
  put(dir / "old/config", "old c");
  auto out = io::directory_writer::create(dir / "old");
  REQUIRE(out);
  put(out->stage("config"), "new c");
  put(out->stage("weights"), "new w");
  const auto done = out->commit();
  REQUIRE(!done);
  CHECK(done.error().text == "cannot replace " + (dir / "old/weights") + ": a directory");
  CHECK(get(dir / "old/config") == "old c");
}

TEST_CASE("a path that is no directory is an error that names it") {
  const scratch dir;
  put(dir / "file", "");
  const auto out = io::directory_writer::create(dir / "file");
  REQUIRE(!out);
  CHECK(out.error().text == "cannot write " + (dir / "file") + ": not a directory");
  CHECK_FALSE(io::directory_writer::create(dir / "no/such"));
}
