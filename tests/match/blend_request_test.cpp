// SPDX-License-Identifier: MIT
#include <crayon/match/blend_request.hpp>

#include <cmath>
#include <string>
#include <vector>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

using crayon::match::blend_request;
using crayon::match::score_encoding;

namespace {

std::vector<float> request_scores(std::size_t n, std::uint64_t seed) {
  crayon::rng random(seed);
  std::vector<float> scores(n);
  float sum = 0;
  for (float& s : scores) sum += s = std::exp(4 * random.uniform());
  for (float& s : scores) s /= sum;
  return scores;
}

std::string with_text(const crayon::result<blend_request>& r) {
  return r ? std::string() : r.error().text;
}

}  // namespace

TEST_CASE("the bytes of a request are the hash and the scores, and read back as they were") {
  for (const std::size_t n : {1U, 2U, 37U, 255U, 1024U}) {
    const auto scores = request_scores(n, n);
    for (const auto encoding : {score_encoding::f32, score_encoding::u8}) {
      const auto made = blend_request::make(0x0123456789ABCDEFU, scores, encoding);
      REQUIRE(made);
      const std::string bytes = made->bytes();
      CHECK(bytes.size() == 8 + n * (encoding == score_encoding::f32 ? 4 : 1));
      CHECK(bytes.substr(0, 8) == "\xEF\xCD\xAB\x89\x67\x45\x23\x01");
      const auto read = blend_request::read(bytes, encoding);
      REQUIRE(read);
      CHECK(read->pool() == made->pool());
      REQUIRE(read->size() == n);
      float sum = 0, largest = 0;
      for (std::size_t i = 0; i < n; ++i) {
        CHECK(read->scores()[i] == made->scores()[i]);
        sum += read->scores()[i];
        largest = std::max(largest, scores[i]);
      }
      CHECK(sum == Approx(1).epsilon(1e-5));
      CHECK(read->bytes() == bytes);
      for (std::size_t i = 0; i < n; ++i) {
        if (encoding == score_encoding::f32) {
          CHECK(read->scores()[i] == scores[i]);
        } else {  // half a step, and the sum's rounding
          const float off = static_cast<float>(n) * largest / 510;
          CHECK(std::abs(read->scores()[i] - scores[i]) <= largest / 500 + scores[i] * off);
        }
      }
    }
  }
}

TEST_CASE("what is no request is refused in one line") {
  const auto f32 = score_encoding::f32;
  const auto make = [&](std::vector<float> scores) {
    return with_text(blend_request::make(1, scores, f32));
  };
  CHECK(make({0.5F, 0.5F}).empty());
  CHECK(make({}) == "0 scores, needs 1 to 1024");
  CHECK(make(std::vector<float>(1025, 1.0F / 1025)) == "1025 scores, needs 1 to 1024");
  CHECK(make({0.5F, NAN}) == "score 1 is nan, needs a number from 0 to 1");
  CHECK(make({INFINITY, 0.5F}) == "score 0 is inf, needs a number from 0 to 1");
  CHECK(make({1.5F, -0.5F}) == "score 0 is 1.500000, needs a number from 0 to 1");
  CHECK(make({-0.0F, 1}).empty());
  CHECK(make({0.5F, 0.4F}) == "the scores have sum 0.900000, needs 1");

  const std::string good = blend_request::make(1, std::vector{0.25F, 0.75F}, f32)->bytes();
  CHECK(blend_request::read(good, f32));
  for (std::size_t n = 0; n < good.size(); ++n) {
    CHECK_FALSE(blend_request::read(good.substr(0, n), f32));
  }
  CHECK_FALSE(blend_request::read(good + "x", f32));
  CHECK(with_text(blend_request::read(good + "x", f32)) ==
        "17 bytes are no hash of 8 and scores of 4");
  std::string nan = good;
  nan.replace(12, 4, std::string("\0\0\xC0\x7F", 4));
  CHECK(with_text(blend_request::read(nan, f32)) == "score 1 is nan, needs a number from 0 to 1");
  const auto u8 = score_encoding::u8;
  CHECK(with_text(blend_request::read(std::string(10, '\0'), u8)) ==
        "the largest score is 0, needs 255: scores are shares of it");
  CHECK(blend_request::read(std::string(8, '\0') + "\xFF", u8));
  CHECK_FALSE(blend_request::read(std::string(8, '\0') + std::string(1025, '\xFF'), u8));
}
