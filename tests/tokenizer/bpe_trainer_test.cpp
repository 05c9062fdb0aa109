// SPDX-License-Identifier: MIT
#include <crayon/tokenizer/bpe_trainer.hpp>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

using crayon::tokenizer::bpe_trainer;

namespace {

const std::vector<std::string>& texts() {
  static const std::vector<std::string> made = [] {
    const std::vector<std::string> words{"convert", "metres", "to",           "feet",
                                         "the",     "then",   "there",        "sort",
                                         "12",      "3.5",    "na\xC3\xAFve", "caf\xC3\xA9"};
    crayon::rng g(4);
    std::vector<std::string> all;
    for (int i = 0; i < 300; ++i) {
      std::string text;
      for (int j = 0; j < 8; ++j) text += (j ? " " : "") + words[g.below(words.size())];
      all.push_back(text + "?\nA: " + std::to_string(g.below(1000)));
    }
    return all;
  }();
  return made;
}

}  // namespace

TEST_CASE("a trained vocabulary has the layout that llama2.c reads", "[tokenizer]") {
  const auto t = bpe_trainer({.vocab = 320}).train(texts());
  REQUIRE(t);
  CHECK(t->size() == 320);
  const auto pieces = t->pieces();
  CHECK(pieces[0].text == "<unk>");
  CHECK(pieces[1].text == "<s>");
  CHECK(pieces[2].text == "</s>");
  CHECK(pieces[3].text == "<0x00>");
  CHECK(pieces[13].text == "<0x0A>");
  CHECK(pieces[258].text == "<0xFF>");
  for (std::size_t i = 260; i < pieces.size(); ++i) {
    CHECK(pieces[i].score == pieces[i - 1].score - 1);
    CHECK(t->find(pieces[i].text) == static_cast<std::int32_t>(i));  // no piece twice
  }
  CHECK(t->find(" the") > 0);
}

TEST_CASE("digits stay alone and pieces stay within words", "[tokenizer]") {
  const auto t = bpe_trainer({.vocab = 400, .longest_piece = 6}).train(texts());
  REQUIRE(t);
  bool longest = false;
  for (std::size_t i = 259; i < t->size(); ++i) {
    const std::string& text = t->pieces()[i].text;
    CHECK(text.find(' ', 1) == std::string::npos);
    CHECK(text.size() <= 6);
    longest |= text.size() == 6;
    if (text.find_first_of("0123456789\n") != std::string::npos) CHECK(text.size() == 1);
  }
  CHECK(longest);
  const auto ids = t->encode("sort 12345");
  CHECK(std::count_if(ids.begin(), ids.end(), [&](std::int32_t id) {
          const auto piece = t->decode(id);
          return piece.size() == 1 && piece[0] >= '1' && piece[0] <= '5';
        }) == 5);
}

TEST_CASE("texts encode to few tokens and decode to themselves", "[tokenizer]") {
  const auto t = bpe_trainer({.vocab = 400}).train(texts());
  REQUIRE(t);
  std::size_t bytes = 0, tokens = 0;
  for (const auto& text : texts()) {
    const auto ids = t->encode(text);
    bytes += text.size();
    tokens += ids.size();
    CHECK(t->decode(ids) == text);
  }
  CHECK(bytes > 2 * tokens);
  // every word of the texts is a piece by now
  CHECK(t->encode("there convert metres").size() == 3);
  CHECK(t->decode(t->encode("\xE6\x97\xA5 unseen")) == "\xE6\x97\xA5 unseen");
}

TEST_CASE("training is deterministic and refuses what cannot be trained", "[tokenizer]") {
  const auto a = bpe_trainer({.vocab = 350}).train(texts()),
             b = bpe_trainer({.vocab = 350}).train(texts());
  REQUIRE((a && b));
  CHECK(std::equal(a->pieces().begin(), a->pieces().end(), b->pieces().begin(), b->pieces().end()));

  const std::vector<std::string> none{"", ""}, one{"ab ab ab"};
  CHECK(bpe_trainer({.vocab = 300}).train(none).error().text ==
        "no text to learn a vocabulary from");
  CHECK(bpe_trainer({.vocab = 259}).train(one).error().text ==
        "a vocabulary of 259 pieces has no room beside the 259 reserved ones");
  const auto small = bpe_trainer({.vocab = 300}).train(one);  // runs out of pairs
  REQUIRE(small);
  CHECK(small->size() == 259 + 3 + 2);
  CHECK(small->encode("ab ab").size() == 2);
  const auto cut = bpe_trainer({.vocab = 260}).train(one);  // one character, the rest are bytes
  REQUIRE(cut);
  CHECK(cut->size() == 260);
  CHECK(cut->decode(cut->encode("ab")) == "ab");
}
