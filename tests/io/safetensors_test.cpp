// SPDX-License-Identifier: MIT
#include <crayon/io/safetensors.hpp>

#include <crayon/io/safetensors_write.hpp>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "scratch.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

std::string file_of(const std::string& header, const std::string& body = "") {
  std::string text(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(text.data(), &length, 8);
  return text + header + body;
}

std::string error_of(const scratch& dir, const std::string& content) {
  put(dir / "f", content);
  const auto file = io::safetensors::open(dir / "f");
  REQUIRE(!file);
  const std::string text = file.error().text;
  CHECK(text.rfind(dir / "f", 0) == 0);  // names the file first
  CHECK(text.find('\n') == std::string::npos);
  return text.substr((dir / "f").size());
}

}  // namespace

TEST_CASE("what the writer writes, the reader reads") {
  const scratch dir;
  const std::vector<float> a{1, 2, 3, 4, 5, 6};
  const std::vector<bf16> b{from_float<bf16>(1.5F), from_float<bf16>(-2)};
  const std::vector<std::int64_t> c{7};
  const auto bytes = [](const auto& v) { return std::as_bytes(std::span(v)); };
  REQUIRE(io::write_safetensors(dir / "f",
                                {io::tensor_of("a", matrix_view<const float>(a.data(), 2, 3)),
                                 {"b", "BF16", {2}, bytes(b)},
                                 {"c", "I64", {1, 1}, bytes(c)},
                                 {"none", "F32", {0, 4}, {}}},
                                {{"format", "pt"}, {"note", "\"quoted\"\n"}}));
  const auto file = io::safetensors::open(dir / "f");
  REQUIRE(file);
  CHECK(file->metadata().at("note") == "\"quoted\"\n");
  REQUIRE(file->tensors().size() == 4);
  CHECK(file->find("c")->shape == std::vector<std::size_t>{1, 1});
  CHECK(file->find("none")->bytes.empty());
  CHECK(file->find("") == nullptr);
  CHECK(file->find("zz") == nullptr);

  std::vector<float> back(6);
  REQUIRE(io::read_matrix(*file, "a", matrix_view<float>(back.data(), 2, 3)));
  CHECK(back == a);
  std::vector<f16> narrow(2);
  REQUIRE(io::read_matrix(*file, "b", matrix_view<f16>(narrow.data(), 1, 2)));
  CHECK(to_float(narrow[0]) == 1.5F);
  CHECK(to_float(narrow[1]) == -2);
}

TEST_CASE("a strided destination keeps what lies between its rows") {
  const scratch dir;
  const std::vector<float> a{1, 2, 3, 4};
  REQUIRE(io::write_safetensors(dir / "f",
                                {io::tensor_of("a", matrix_view<const float>(a.data(), 2, 2))}));
  const auto file = io::safetensors::open(dir / "f");
  REQUIRE(file);
  std::vector<float> out(6, -1);
  REQUIRE(io::read_matrix(*file, "a", matrix_view<float>(out.data(), 2, 2, 3)));
  CHECK(out == std::vector<float>{1, 2, -1, 3, 4, -1});
}

TEST_CASE("the same content gives the same bytes, the first tensor on a cache line") {
  const scratch dir;
  const std::vector<float> a{1, 2};
  const std::vector<f16> h{from_float<f16>(3)};
  const io::tensor x{"x", "F32", {2}, std::as_bytes(std::span(a))};
  const io::tensor y{"y", "F32", {2}, std::as_bytes(std::span(a))};
  const io::tensor z{"z", "F16", {1}, std::as_bytes(std::span(h))};
  REQUIRE(io::write_safetensors(dir / "1", {x, y, z}, {{"k", "v"}}));
  REQUIRE(io::write_safetensors(dir / "2", {z, y, x}, {{"k", "v"}}));
  const std::string bytes = get(dir / "1");
  CHECK(bytes == get(dir / "2"));
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK((length + 8) % 64 == 0);
  CHECK(bytes.size() == length + 8 + 18);
}

TEST_CASE("the writer refuses what it could not read back") {
  const scratch dir;
  const std::vector<float> a{1, 2};
  const auto bytes = std::as_bytes(std::span(a));
  CHECK_FALSE(io::write_safetensors(dir / "f", {{"a", "F32", {3}, bytes}}));
  CHECK_FALSE(io::write_safetensors(dir / "f", {{"a", "F99", {2}, bytes}}));
  CHECK_FALSE(
      io::write_safetensors(dir / "f", {{"a", "F32", {2}, bytes}, {"a", "F32", {2}, bytes}}));
  CHECK_FALSE(io::write_safetensors(dir / "f", {{"__metadata__", "F32", {2}, bytes}}));
  CHECK(dir.names().empty());
  REQUIRE(io::write_safetensors(dir / "f", {}, {{"not utf-8", "\xFF"}}));
  CHECK(io::safetensors::open(dir / "f"));
}

TEST_CASE("a header that does not fit its file is refused, with both values") {
  const scratch dir;
  const std::string eight(8, '\0');
  const auto one = [](const std::string& fields) { return "{\"t\":{" + fields + "}}"; };
  CHECK(error_of(dir, "abc") == ": not a safetensors file: 3 bytes, needs 8");
  CHECK(error_of(dir, file_of("{}").substr(0, 9)) ==
        ": not a safetensors file: a header of 2 bytes in a file of 9");
  CHECK(contains(error_of(dir, "GGUF\3\0\0\0 and so on"), "not a safetensors file"));
  CHECK(error_of(dir, file_of("[1]")) == ": the safetensors header is not a JSON object");
  CHECK(error_of(dir, file_of("{\"t\"")) == ": the safetensors header is not a JSON object");
  CHECK(contains(error_of(dir, file_of(one(R"("dtype":"F32")"))), "tensor t: needs dtype"));
  CHECK(error_of(dir, file_of(one(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), eight)) ==
        ": tensor t: dtype F33 is not known");
  CHECK(error_of(dir, file_of(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), eight)) ==
        ": tensor t: F32 [3] needs 12 bytes, the file has 8");
  CHECK(error_of(dir, file_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), eight)) ==
        ": tensor t: bytes 8..0 run backwards");
  CHECK(error_of(dir, file_of(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,12])"), eight)) ==
        ": tensor t: bytes 0..12 end after the file's 8 bytes of tensors (truncated?)");
  CHECK(error_of(dir, file_of(one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), eight)) ==
        ": tensor t: a dimension is -2, not a count");
  CHECK(error_of(dir, file_of(one(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), eight)) ==
        ": tensor t: a dimension is 2.0, not a count");
  CHECK(contains(
      error_of(dir, file_of(one(R"("dtype":"F32","shape":[4294967296,4294967296,4294967296],)"
                                R"("data_offsets":[0,0])"))),
      "is too large"));
  CHECK(error_of(dir, file_of(R"({"__metadata__":{"a":1}})")) ==
        ": __metadata__.a is not a string");
  CHECK(error_of(dir, file_of(R"({"__metadata__":[]})")) == ": __metadata__ is not a JSON object");
}

TEST_CASE("a header nested too deeply is refused before anything is done with it") {
  const scratch dir;
  const std::size_t deep = 200000;
  const std::string header = "{\"a\": {\"dtype\": \"F32\", \"shape\": [" + std::string(deep, '[') +
                             std::string(deep, ']') + "], \"data_offsets\": [0, 0]}}";
  const std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  put(dir / "f", bytes + header);
  CHECK(io::safetensors::open(dir / "f").error().text ==
        (dir / "f") + ": the safetensors header is nested too deeply");
}

TEST_CASE("tensors that overlap, leave gaps or share a name are refused") {
  const scratch dir;
  const auto t = [](const char* name, int first, int last) {
    return "\"" + std::string(name) + R"(":{"dtype":"U8","shape":[)" +
           std::to_string(last - first) + R"(],"data_offsets":[)" + std::to_string(first) + "," +
           std::to_string(last) + "]}";
  };
  const std::string eight(8, '\0');
  CHECK(error_of(dir, file_of("{" + t("a", 0, 5) + "," + t("b", 4, 8) + "}", eight)) ==
        ": tensor b starts at byte 4, the one before ends at 5");
  CHECK(error_of(dir, file_of("{" + t("a", 0, 3) + "," + t("b", 4, 8) + "}", eight)) ==
        ": tensor b starts at byte 4, the one before ends at 3");
  CHECK(error_of(dir, file_of("{" + t("a", 0, 7) + "}", eight)) ==
        ": the tensors end at byte 7, the file has 8 bytes of them");
  CHECK(error_of(dir, file_of("{" + t("a", 0, 4) + "," + t("a", 4, 8) + "}", eight)) ==
        ": tensor a occurs twice in the header");
  put(dir / "f",
      file_of("{" + t("b", 4, 8) + "," + t("a", 0, 4) + "," + t("z", 4, 4) + "}  ", eight));
  CHECK(io::safetensors::open(dir / "f"));
}

TEST_CASE("no truncation of a good file is accepted") {
  const scratch dir;
  const std::vector<float> a{1, 2, 3};
  REQUIRE(io::write_safetensors(dir / "f", {{"a", "F32", {3}, std::as_bytes(std::span(a))}}));
  const std::string whole = get(dir / "f");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    put(dir / "g", whole.substr(0, n));
    CHECK_FALSE(io::safetensors::open(dir / "g"));
  }
}

TEST_CASE("a weight that is not finite is an error with its place") {
  const scratch dir;
  std::vector<float> a{1, 2, 3, 4, 5, 6};
  const auto read = [&](auto element) {
    REQUIRE(io::write_safetensors(dir / "f",
                                  {io::tensor_of("a", matrix_view<const float>(a.data(), 2, 3))}));
    const auto file = io::safetensors::open(dir / "f");
    REQUIRE(file);
    std::vector<decltype(element)> out(6);
    return io::read_matrix(*file, "a", matrix_view<decltype(element)>(out.data(), 2, 3));
  };
  CHECK(read(float{}));
  a[4] = 70000;
  CHECK(read(float{}));
  CHECK(read(bf16{}));
  const auto large = read(f16{});
  REQUIRE(!large);
  CHECK(large.error().text == (dir / "f") + ": tensor a [1, 1] is 70000.000000, too large for F16");
  a[4] = std::nanf("");
  const auto nan = read(float{});
  REQUIRE(!nan);
  CHECK(nan.error().code == errc::bad_value);
  CHECK(nan.error().text == (dir / "f") + ": tensor a [1, 1] is nan");
  a[4] = -INFINITY;
  CHECK(read(bf16{}).error().text == (dir / "f") + ": tensor a [1, 1] is -inf");
}

TEST_CASE("a missing tensor, another shape or another type is an error with both") {
  const scratch dir;
  const std::vector<float> a(6);
  const std::vector<std::int32_t> n(6);
  REQUIRE(io::write_safetensors(dir / "f",
                                {io::tensor_of("a", matrix_view<const float>(a.data(), 2, 3)),
                                 {"n", "I32", {2, 3}, std::as_bytes(std::span(n))}}));
  const auto file = io::safetensors::open(dir / "f");
  REQUIRE(file);
  std::vector<float> out(6);
  const matrix_view<float> m(out.data(), 3, 2);
  CHECK(io::read_matrix(*file, "b", m).error().text == (dir / "f") + ": tensor b is missing");
  CHECK(io::read_matrix(*file, "a", m).error().text ==
        (dir / "f") + ": tensor a has shape [2, 3], needs [3, 2]");
  CHECK(io::read_matrix(*file, "n", matrix_view<float>(out.data(), 2, 3)).error().text ==
        (dir / "f") + ": tensor n is I32, needs F32, BF16 or F16");
}
