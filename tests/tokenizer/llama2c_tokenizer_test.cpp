// SPDX-License-Identifier: MIT
#include <crayon/tokenizer/llama2c_tokenizer.hpp>
#include <crayon/tokenizer/sample.hpp>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "../catch.hpp"
#include "../io/scratch.hpp"

using crayon::tokenizer::llama2c_tokenizer;
using crayon::tokenizer::scored_piece;
using crayon_test::scratch;
using ids = std::vector<std::int32_t>;

namespace {

/// The reserved pieces and those given.
llama2c_tokenizer made_of(const std::vector<scored_piece>& more) {
  std::vector<scored_piece> pieces{{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}};
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char* digits = "0123456789ABCDEF";
    pieces.push_back({{'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'}, 0});
  }
  pieces.insert(pieces.end(), more.begin(), more.end());
  auto t = llama2c_tokenizer::make(pieces);
  REQUIRE(t);
  return *t;
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("encodes what llama2.c's run.c encodes", "[tokenizer]") {
  const char* chosen = std::getenv("CRAYON_DATA");
  const std::string path = (chosen ? chosen : std::string(CRAYON_SOURCE_DIR "/../shared/data")) +
                           "/models/stories260K/tok512.bin";
  if (!std::ifstream(path).good()) {
    WARN("skipped: " << path << " is not there (set CRAYON_DATA)");
    return;
  }
  const auto t = llama2c_tokenizer::load(path, 512);
  REQUIRE(t);
  CHECK(t->size() == 512);
  std::ifstream cases(CRAYON_FIXTURES "/tok512.txt");
  std::size_t count = 0;
  for (std::string hex, line; std::getline(cases, hex) && std::getline(cases, line); ++count) {
    std::istringstream numbers(line);
    ids want;
    for (std::int32_t id; numbers >> id;) want.push_back(id);
    const std::string text = from_hex(hex);
    INFO(text);
    CHECK(t->encode(text) == want);
    // A text that spells a raw-byte piece decodes to that byte, as in run.c.
    if (text.find("<0x") == std::string::npos) CHECK(t->decode(want) == text);
  }
  CHECK(count == 54);
}

TEST_CASE("pieces merge by score, characters fall back to bytes", "[tokenizer]") {
  // 259 ' ', 260 a, 261 b, 262 c, 263 ab, 264 bc, 265 abc, 266 ' a', 267 é
  const auto t = made_of({{" ", -9},
                          {"a", -9},
                          {"b", -9},
                          {"c", -9},
                          {"ab", -2},
                          {"bc", -1},
                          {"abc", -3},
                          {" a", -4},
                          {"\xC3\xA9", -9}});
  CHECK(t.encode("").empty());
  CHECK(t.encode("abc") == ids{259, 265});  // bc first, then a + bc
  CHECK(t.encode("ab") == ids{259, 263});
  CHECK(t.encode("ac a") == ids{266, 262, 266});
  CHECK(t.encode("\xC3\xA9") == ids{259, 267});
  CHECK(t.encode("d\xC3\xA8") == ids{259, 'd' + 3, 0xC3 + 3, 0xA8 + 3});
  CHECK(t.encode(std::string("\0", 1)) == ids{259, 3});

  CHECK(t.decode(265) == "abc");
  CHECK(t.decode(0xC3 + 3) == "\xC3");
  CHECK(t.decode(-1).empty());
  CHECK(t.decode(268).empty());
  CHECK(t.decode(1, 266) == "a");
  CHECK(t.decode(260, 266) == " a");
  CHECK(t.decode(1, ' ' + 3) == " ");  // a raw byte is no piece with a leading space
  CHECK(t.decode(ids{266, 1, 266, 2}) == "aa");
  CHECK(t.find("abc") == 265);
  CHECK(t.find("abd") == -1);
  const auto never = made_of({{" ", -9}, {"a", -9}, {"b", -9}, {"ab", -1e10F}});
  CHECK(never.encode("ab") == ids{259, 260, 261});  // run.c merges what scores more than -1e10

  const auto no_bytes = llama2c_tokenizer::make({{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}, {"a", 0}});
  REQUIRE(no_bytes);
  CHECK(no_bytes->encode("ax") == ids{0, 3, 0});
}

TEST_CASE("a text ends with what the model learned, and whatever ends one is no text",
          "[tokenizer]") {
  auto tokens = *crayon::tokenizer::llama2c_tokenizer::make(
      {{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}, {" ", 0}, {"a", 0}, {" a", 1}});
  CHECK(crayon::tokenizer::encode_sample(tokens, {"a", "a"}).ids ==
        std::vector<std::int32_t>{1, 5, 5, 2});
  tokens.end_texts_with(tokens.bos());
  CHECK(crayon::tokenizer::encode_sample(tokens, {"a", "a"}).ids ==
        std::vector<std::int32_t>{1, 5, 5, 1});
  CHECK(crayon::tokenizer::ends_text(tokens, 1));
  CHECK(crayon::tokenizer::ends_text(tokens, 2));
  CHECK_FALSE(crayon::tokenizer::ends_text(tokens, 4));
  CHECK(tokens.decode(std::vector<std::int32_t>{5, 1, 2}) == "a");
}

TEST_CASE("long texts encode in reasonable time", "[tokenizer]") {
  const auto t = made_of({{"a", 0}, {"aa", -1}, {"aaaa", -2}, {" ", 0}});
  CHECK(t.encode(std::string(1 << 18, 'a')).size() == (1 << 16) + 1);  // a scan per merge: hours
}

TEST_CASE("tokenizer.bin files come back as they were written", "[tokenizer]") {
  const scratch dir;
  const auto t = made_of({{" ", -1}, {"x", -2.5F}, {" x", 3}});
  REQUIRE(t.save(dir / "t.bin"));
  const auto again = llama2c_tokenizer::load(dir / "t.bin");
  REQUIRE(again);
  CHECK(std::equal(again->pieces().begin(), again->pieces().end(), t.pieces().begin(),
                   t.pieces().end()));
}

TEST_CASE("tokenizer.bin files that make no sense are refused", "[tokenizer]") {
  const scratch dir;
  const std::string path = dir / "t.bin";
  const auto refused = [&](const std::string& bytes, std::size_t vocab = 0) {
    write(path, bytes);
    const auto t = llama2c_tokenizer::load(path, vocab);
    REQUIRE_FALSE(t);
    REQUIRE(t.error().text.starts_with(path + ": "));
    return t.error().text.substr(path.size() + 2);
  };
  CHECK(refused("") == "not a tokenizer.bin: its longest piece would have no bytes");
  CHECK(refused("GGUFxxxx") ==
        "not a tokenizer.bin: its longest piece would have 1179993927 bytes");
  REQUIRE(made_of({{"xyz", 1}}).save(path));
  const std::string good = bytes_of(path);
  CHECK(refused(good.substr(0, good.size() - 1)) == "piece 259 needs 3 bytes, the file has 2 left");
  CHECK(refused(good.substr(0, good.size() - 8)) ==
        "piece 259 needs 8 header bytes, the file has 3 left");
  CHECK(refused(good, 512) == "260 pieces, the model's vocabulary has 512");
  CHECK(refused(good.substr(0, 4)) == "0 pieces, a vocabulary has at least <unk>, <s>, </s>");
  std::string nan = good;
  nan.replace(good.size() - 11, 4, "\xFF\xFF\xFF\xFF");
  CHECK(refused(nan) == "the score of piece 259 is NaN");
  const auto missing = llama2c_tokenizer::load(dir / "none");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().text == "cannot open " + (dir / "none") + ": No such file or directory");
}
