// SPDX-License-Identifier: MIT
#include <crayon/io/file.hpp>

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "scratch.hpp"

using namespace crayon;
using namespace crayon_test;

TEST_CASE("a mapped file shows the bytes of the file") {
  const scratch dir;
  std::string text = "line\n";
  text.push_back('\0');
  text += std::string(10000, 'x');
  put(dir / "a", text);
  auto file = io::mapped_file::open(dir / "a");
  REQUIRE(file);
  CHECK(file->path() == dir / "a");
  REQUIRE(file->size() == text.size());
  const auto bytes = file->bytes();
  CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == text);
  CHECK(*io::read_text(dir / "a") == text);

  io::mapped_file moved = *std::move(file);
  io::mapped_file other;
  other = std::move(moved);
  CHECK(other.bytes().data() == bytes.data());
}

TEST_CASE("an empty file maps to no bytes") {
  const scratch dir;
  put(dir / "empty", "");
  auto file = io::mapped_file::open(dir / "empty");
  REQUIRE(file);
  CHECK(file->bytes().empty());
  CHECK(io::read_text(dir / "empty")->empty());
}

TEST_CASE("a file that cannot be read is an error that names it") {
  const scratch dir;
  const auto missing = io::mapped_file::open(dir / "no");
  REQUIRE(!missing);
  CHECK(missing.error().code == errc::not_found);
  CHECK(missing.error().text == "cannot open " + (dir / "no") + ": No such file or directory");
  const auto directory = io::read_text(dir.path());
  REQUIRE(!directory);
  CHECK(directory.error().code == errc::io_failed);
  CHECK(directory.error().text == "cannot read " + dir.path() + ": not a regular file");
}

TEST_CASE("a written file appears on commit and replaces the old one as a whole") {
  const scratch dir;
  put(dir / "f", "old");
  {
    auto file = io::atomic_file::create(dir / "f");
    REQUIRE(file);
    REQUIRE(file->write("new "));
    REQUIRE(file->write("text"));
    CHECK(get(dir / "f") == "old");
    CHECK(dir.names().size() == 2);
    REQUIRE(file->commit(true));
  }
  CHECK(get(dir / "f") == "new text");
  CHECK(dir.names() == std::vector<std::string>{"f"});

  REQUIRE(io::write_text(dir / "g", "abc"));
  CHECK(get(dir / "g") == "abc");
}

TEST_CASE("without commit nothing is left behind") {
  const scratch dir;
  {
    auto file = io::atomic_file::create(dir / "f");
    REQUIRE(file);
    auto moved = *std::move(file);
    REQUIRE(moved.write("half"));
    CHECK(dir.names().size() == 1);
  }
  CHECK(dir.names().empty());
}

TEST_CASE("a file that cannot be written is an error that names it") {
  const scratch dir;
  const auto nowhere = io::write_text(dir / "no/such/file", "x");
  REQUIRE(!nowhere);
  CHECK(contains(nowhere.error().text, "cannot write " + (dir / "no/such/file")));
  // Renaming over a device or a pipe would replace it.
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  const auto pipe = io::write_text(dir / "pipe", "x");
  REQUIRE(!pipe);
  CHECK(pipe.error().text == "cannot write " + (dir / "pipe") + ": not a regular file");
  CHECK_FALSE(io::write_text(dir.path(), "x"));
  CHECK(dir.names() == std::vector<std::string>{"pipe"});
}

TEST_CASE("a full disk is an error and leaves no file") {
  if (::access("/dev/full", W_OK) != 0) {
    WARN("skipped: no /dev/full");
    return;
  }
  // The writer refuses devices, so the write itself is tried on a link that appears after the
  // check.
  const scratch dir;
  auto file = io::atomic_file::create(dir / "f");
  REQUIRE(file);
  const auto names = dir.names();
  REQUIRE(names.size() == 1);
  const int full = ::open("/dev/full", O_WRONLY);
  REQUIRE(full >= 0);
  for (int candidate = 3; candidate < 64; ++candidate) {
    struct stat a {
    }, b{};
    if (::fstat(candidate, &a) == 0 && ::stat((dir / names[0]).c_str(), &b) == 0 &&
        a.st_ino == b.st_ino && a.st_dev == b.st_dev) {
      ::dup2(full, candidate);
    }
  }
  ::close(full);
  const auto written = file->write("x");
  REQUIRE(!written);
  CHECK(written.error().text == "cannot write " + (dir / "f") + ": No space left on device");
}

TEST_CASE("a symbolic link stays, and the file it points to is replaced") {
  const scratch dir;
  std::filesystem::create_directory(dir / "there");
  put(dir / "there/f", "old");
  std::filesystem::create_symlink("there/f", dir / "link");
  REQUIRE(io::write_text(dir / "link", "new"));
  CHECK(std::filesystem::is_symlink(dir / "link"));
  CHECK(get(dir / "there/f") == "new");

  std::filesystem::create_symlink("nowhere", dir / "dangling");
  CHECK_FALSE(io::write_text(dir / "dangling", "new"));
  std::filesystem::create_symlink("/proc/self/fd/1", dir / "stdout");
  const auto refused = io::write_text(dir / "stdout", "new");
  REQUIRE(!refused);
  CHECK(refused.error().text == "cannot write " + (dir / "stdout") + ": not a regular file");
  CHECK(std::filesystem::is_symlink(dir / "stdout"));
}

TEST_CASE("a pipe is not waited for") {
  const scratch dir;
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  const auto read = io::read_text(dir / "pipe");
  REQUIRE(!read);
  CHECK(read.error().text == "cannot read " + (dir / "pipe") + ": not a regular file");
}
