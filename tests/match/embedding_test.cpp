// SPDX-License-Identifier: MIT
#include <crayon/match/embedding.hpp>

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "../catch.hpp"

using namespace crayon;

namespace {

/// State of token t is (t, 1): a model small enough to compute by hand.
struct tiny_session {
  int resets = 0;
  int deltas = 0;
  void reset() { ++resets; }
  template <class Visit, class... More>
  void for_each_hidden(std::span<const std::int32_t> tokens, Visit&& visit, const More&... more) {
    deltas += static_cast<int>(sizeof...(more));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const float state[]{static_cast<float>(tokens[i]), 1};
      visit(i, std::span<const float>(state));
    }
  }
};

}  // namespace

TEST_CASE("prompt and completion are pooled apart and weigh the same") {
  // Prompt states (3, 0), (5, 0), (1, 8): sum (9, 8). Completion (0, -2): one token.
  const std::vector<float> hidden{3, 0, 5, 0, 1, 8, 0, -2};
  std::vector<float> f(4);
  match::pool_hidden({hidden.data(), 4, 2}, 3, f);
  const double length = std::sqrt(9.0 * 9 + 8 * 8), half = std::sqrt(0.5);
  CHECK(f[0] == Approx(9 / length * half));
  CHECK(f[1] == Approx(8 / length * half));
  CHECK(f[2] == 0);
  CHECK(f[3] == Approx(-half));
}

TEST_CASE("a half without tokens is zero and the other is what it is with one") {
  const std::vector<float> hidden{3, 4};
  std::vector<float> f(4, -1);
  match::pool_hidden({hidden.data(), 1, 2}, 1, f);
  CHECK(f[0] == Approx(0.6 * std::sqrt(0.5)));
  CHECK(f[1] == Approx(0.8 * std::sqrt(0.5)));
  CHECK(f[2] == 0);
  CHECK(f[3] == 0);
  match::pool_hidden({hidden.data(), 1, 2}, 0, f);
  CHECK(f[0] == 0);
  CHECK(f[2] == Approx(0.6 * std::sqrt(0.5)));
  match::pool_hidden({hidden.data(), 0, 2}, 0, f);
  CHECK(f == std::vector<float>{0, 0, 0, 0});
}

TEST_CASE("any session that yields hidden states embeds") {
  tiny_session session;
  const std::vector<std::int32_t> tokens{1, 3, 0};
  std::vector<float> f(4), expected(4);
  match::embed(session, tokens, 2, f);
  const std::vector<float> hidden{1, 1, 3, 1, 0, 1};
  match::pool_hidden({hidden.data(), 3, 2}, 2, expected);
  CHECK(f == expected);
  CHECK(session.resets == 2);  // before and after: the engine goes on from an empty cache
  match::embed(session, tokens, 2, f, 0, 0);
  CHECK(session.deltas == 2);
}

TEST_CASE("the mean of rows") {
  const std::vector<float> rows{1, 2, 3, 6};
  CHECK(match::mean_of({rows.data(), 2, 2}) == std::vector<float>{2, 4});
}

TEST_CASE("errors are pooled over the completion alone, BOS is left out") {
  std::vector<float> f(3, -1);
  match::error_pooling pooling(2, f);  // BOS p | c EOS
  const float states[]{100, 4, 6, 10};
  for (std::size_t i = 0; i < 4; ++i) pooling.add(i, {states + i, 1});
  const float errors[]{50, 1, 3};
  for (std::size_t i = 0; i < 3; ++i) pooling.add_error(i, {errors + i, 1});
  pooling.finish();
  CHECK(f == std::vector<float>{4, 8, 2});
}

TEST_CASE("zeros stay zeros") {
  std::vector<float> v(3);
  match::normalise(v);
  CHECK(v == std::vector<float>{0, 0, 0});
}
