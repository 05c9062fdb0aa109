// SPDX-License-Identifier: MIT
#include <crayon/io/json_lines.hpp>

#include <sys/stat.h>

#include <string>

#include "../catch.hpp"
#include "scratch.hpp"

using namespace crayon;
using crayon_test::put;

TEST_CASE("a file of JSON lines: prompt, completion and perhaps a task, empty lines skipped") {
  const crayon_test::scratch scratch;
  const std::string path = scratch / "a.jsonl";
  put(path,
      "{\"prompt\":\"p\",\"completion\":\"c\"}\n\r\n  \n"
      "{\"task\":\"t\",\"prompt\":\"q\",\"completion\":\"\",\"group\":\"g\",\"other\":1}");
  const auto samples = io::read_samples(path);
  REQUIRE(samples);
  REQUIRE(samples->size() == 2);
  REQUIRE((*samples)[0].prompt == "p");
  REQUIRE((*samples)[0].completion == "c");
  REQUIRE((*samples)[0].task.empty());
  REQUIRE((*samples)[0].group.empty());
  REQUIRE((*samples)[1].task == "t");
  REQUIRE((*samples)[1].group == "g");
}

TEST_CASE("a folder of JSON lines: files by name, which is the task of lines without one") {
  const crayon_test::scratch scratch;
  const std::string folder = scratch / "texts";
  REQUIRE(::mkdir(folder.c_str(), 0777) == 0);
  put(folder + "/b.jsonl", "{\"prompt\":\"2\",\"completion\":\"c\"}\n");
  put(folder + "/a.jsonl", "{\"prompt\":\"1\",\"completion\":\"c\",\"task\":\"own\"}\n");
  put(folder + "/notes.txt", "not read");
  const auto samples = io::read_samples(folder);
  REQUIRE(samples);
  REQUIRE(samples->size() == 2);
  REQUIRE((*samples)[0].prompt == "1");
  REQUIRE((*samples)[0].task == "own");
  REQUIRE((*samples)[1].task == "b");
}

TEST_CASE("what is no sample is refused, with file and line") {
  const crayon_test::scratch scratch;
  const std::string path = scratch / "bad.jsonl";
  const auto text_of = [&](const std::string& lines) {
    put(path, lines);
    const auto samples = io::read_samples(path);
    REQUIRE_FALSE(samples);
    return samples.error().text;
  };
  REQUIRE(text_of("") == path + ": no samples");
  REQUIRE(text_of("\n[1]\n") == path + ":2: not a JSON object");
  REQUIRE(text_of("{\"prompt\":\"p\"") == path + ":1: not a JSON object");
  REQUIRE(text_of(std::string(100000, '[')) == path + ":1: not a JSON object");
  REQUIRE(text_of("{\"completion\":\"c\"}") == path + ":1: no \"prompt\"");
  REQUIRE(text_of("{\"prompt\":1,\"completion\":\"c\"}") ==
          path + ":1: \"prompt\" is not a string");
  REQUIRE(text_of("{\"prompt\":\"\",\"completion\":\"c\"}") == path + ":1: \"prompt\" is empty");
  REQUIRE_FALSE(io::read_samples(scratch / "absent.jsonl"));
}
