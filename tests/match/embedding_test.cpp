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
  /// The error after state (t, 1) on token n is (n - t, 10 t).
  template <class... More>
  void prediction_errors(matrix_view<const float> states, std::span<const std::int32_t> next,
                         matrix_view<float> errors, const More&... more) {
    deltas += static_cast<int>(sizeof...(more));
    for (std::size_t i = 0; i < states.rows; ++i) {
      errors(i, 0) = static_cast<float>(next[i]) - states(i, 0);
      errors(i, 1) = 10 * states(i, 0);
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

TEST_CASE("the last tokens of prompt and completion") {
  const std::vector<float> hidden{9, 9, 3, 4, 7, 7, 0, -2};
  const double half = std::sqrt(0.5);
  std::vector<float> f(4);
  const auto pool = [&](std::size_t tokens, std::size_t prompt) {
    match::last_token last(prompt, f);
    for (std::size_t i = 0; i < tokens; ++i) last.add(i, std::span(hidden).subspan(2 * i, 2));
    last.finish();
  };
  pool(4, 2);
  CHECK(f[0] == Approx(0.6 * half));
  CHECK(f[1] == Approx(0.8 * half));
  CHECK(f[2] == 0);
  CHECK(f[3] == Approx(-half));
  pool(2, 2);  // a prompt alone
  CHECK(f[1] == Approx(0.8 * half));
  CHECK(f[2] == 0);
  CHECK(f[3] == 0);
  CHECK(match::last_token::known(2, 1) == 2);
  CHECK(match::last_token::known(2, 0) == 0);
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

TEST_CASE("one pass pools states and errors, of all tokens and of the prompt alone") {
  tiny_session session;
  const std::vector<std::int32_t> tokens{1, 4, 6, 9, 2};  // BOS p q | c EOS
  std::vector<float> all(6), prompt(6);
  match::error_pooling of_all(3, all), of_prompt(3, prompt);
  match::pool_states(session, tokens, 3, of_all, &of_prompt, 0, 0);
  // Errors after q on c and after c on EOS: (9 - 6, 60) and (2 - 9, 90).
  CHECK(all == std::vector<float>{5, 1, 5.5F, 1, -2, 75});
  CHECK(prompt == std::vector<float>{5, 1, 0, 0, 0, 0});
  CHECK(session.deltas == 4);

  // A prompt alone has no errors; an empty one (BOS, or nothing at all) determines nothing.
  match::embed<match::error_pooling>(session, std::span(tokens).first(3), 3, all);
  CHECK(all == prompt);
  CHECK(match::error_pooling::known(2, 3) == 2);
  CHECK(match::error_pooling::known(2, 1) == 0);
  CHECK(match::mean_pooling::known(2, 1) == 2);
  CHECK(match::mean_pooling::known(2, 0) == 0);
  match::embed<match::error_pooling>(session, std::span(tokens).first(1), 1, all);
  CHECK(all == std::vector<float>(6));
  match::embed<match::error_pooling>(session, std::span(tokens).first(2), 0, all);  // BOS counts
  CHECK(all == std::vector<float>{0, 0, 4, 1, 3, 10});
}

TEST_CASE("zeros stay zeros") {
  std::vector<float> v(3);
  match::normalise(v);
  CHECK(v == std::vector<float>{0, 0, 0});
}
