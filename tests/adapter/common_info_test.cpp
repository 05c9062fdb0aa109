// SPDX-License-Identifier: MIT
#include <crayon/adapter/common_info.hpp>

#include <string>
#include <vector>

#include "../catch.hpp"

using crayon::adapter::common_info;
using crayon::adapter::peft_info;
using crayon::adapter::saved_tensor;

namespace {

crayon::result<peft_info> common_of(const std::vector<peft_info>& infos) {
  std::vector<const peft_info*> pointers;
  std::vector<std::string> names;
  for (const auto& info : infos) {
    names.push_back(std::string(1, static_cast<char>('a' + names.size())));
    pointers.push_back(&info);
  }
  return common_info(pointers, names);
}

peft_info made_for(const std::string& model, const std::string& hash = "") {
  peft_info info;
  info.base_model = model;
  info.base_hash = hash;
  return info;
}

saved_tensor saved(const std::string& name, std::vector<unsigned char> bytes) {
  saved_tensor t{name, "U8", {bytes.size()}, {}};
  for (const unsigned char b : bytes) t.bytes.push_back(std::byte{b});
  return t;
}

}  // namespace

TEST_CASE("adapters of one base model have a common information") {
  const auto same = common_of({made_for("m", ""), made_for("", "h"), made_for("m", "h")});
  REQUIRE(same);
  CHECK(same->base_model == "m");
  CHECK(same->base_hash == "h");
  // With equal hashes the name is only a name.
  CHECK(common_of({made_for("m", "h"), made_for("/copy/of/m", "h")}));
  CHECK_FALSE(common_of({}));
}

TEST_CASE("adapters of other base models are refused") {
  CHECK(common_of({made_for("m"), made_for("n")}).error().text ==
        "b: base_model_name_or_path is \"n\", a has \"m\"");
  CHECK(common_of({made_for(""), made_for("m"), made_for("n", "h")}).error().text ==
        "c: base_model_name_or_path is \"n\", b has \"m\"");
  CHECK(common_of({made_for("m", "g"), made_for("m", "h")}).error().text ==
        "b: made for a base model with hash h, a for one with g");
  CHECK(common_of({made_for("m"), made_for("m", "g"), made_for("m", "h")}).error().text ==
        "c: made for a base model with hash h, b for one with g");
}

TEST_CASE("fan_in_fan_out that differs is refused") {
  auto conv = made_for("gpt2");
  conv.fan_in_fan_out = true;
  CHECK(common_of({made_for("gpt2"), conv}).error().text ==
        "b: fan_in_fan_out is true, a has the opposite");
  CHECK(common_of({conv, conv})->fan_in_fan_out);
}

TEST_CASE("saved modules must be equal byte by byte") {
  auto a = made_for("m"), b = made_for("m"), none = made_for("m");
  a.modules_to_save = {"head"};
  b.modules_to_save = {"head", "score"};
  a.saved = {saved("head.weight", {1, 2}), saved("head.bias", {3})};
  b.saved = {saved("head.bias", {3}), saved("head.weight", {1, 2})};
  const auto common = common_of({a, b});
  REQUIRE(common);
  CHECK(common->saved == a.saved);
  CHECK(common->modules_to_save == std::vector<std::string>{"head", "score"});

  const std::string why = ": modules_to_save cannot be blended unless they are equal";
  CHECK(common_of({a, none}).error().text ==
        "b: saved module head.weight U8 [2] is not in both, a" + why);
  CHECK(common_of({none, a}).error().text ==
        "b: saved module head.weight U8 [2] is not in both, a" + why);
  b.saved[1] = saved("head.weight", {1, 7});
  CHECK(common_of({a, b}).error().text ==
        "b: saved module head.weight U8 [2] has other values in the other, a" + why);
  b.saved[1] = saved("head.weight", {1, 2, 3});
  CHECK(common_of({a, b}).error().text ==
        "b: saved module head.weight U8 [3] is U8 [2] in the other, a" + why);
}

TEST_CASE("the base model's own embedding may come with some of the adapters") {
  auto a = made_for("m"), b = made_for("m"), none = made_for("m");
  a.saved = {saved("e.base_layer.weight", {1, 2})};
  b.saved = {saved("e.base_layer.weight", {1, 7})};
  CHECK(common_of({a, none})->saved == a.saved);
  CHECK(common_of({none, a, a})->saved == a.saved);
  CHECK(common_of({none, a, b}).error().text ==
        "c: saved module e.base_layer.weight U8 [2] has other values in the other, a: "
        "modules_to_save cannot be blended unless they are equal");
}

TEST_CASE("the type on disk is kept where all agree") {
  auto half = made_for("m");
  half.stored = crayon::dtype::f16;
  CHECK(common_of({half, half})->stored == crayon::dtype::f16);
  CHECK(common_of({half, made_for("m")})->stored == crayon::dtype::f32);
}
