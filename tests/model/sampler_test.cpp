// SPDX-License-Identifier: MIT
#include <crayon/model/sampler.hpp>

#include <map>

#include <crayon/core/rng.hpp>
#include <crayon/simd/scalar.hpp>

#include "fixture.hpp"

using crayon::model::greedy;
using crayon::model::random_sampler;

namespace {

std::map<std::int32_t, double> frequencies(random_sampler draw, const std::vector<float>& logits,
                                           int draws = 20000) {
  std::map<std::int32_t, double> found;
  for (int i = 0; i < draws; ++i) {
    auto copy = logits;
    found[draw(copy)] += 1.0 / draws;
  }
  return found;
}

}  // namespace

TEST_CASE("greedy takes the first of equal logits", "[model]") {
  const std::vector<float> logits{1, 3, -2, 3, 0};
  CHECK(greedy{}(logits) == 1);
  std::vector<float> copy = logits;
  CHECK(random_sampler({.temperature = 0}, 1)(copy) == 1);
}

TEST_CASE("the sampler draws from the tempered softmax", "[model]") {
  const std::vector<float> logits{0, 1, 2, -1};
  for (const float temperature : {0.5F, 1.0F, 2.0F}) {
    double sum = 0;
    for (const float x : logits) sum += std::exp(double{x} / double{temperature});
    const auto found = frequencies({{.temperature = temperature}, 7}, logits);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double p = std::exp(double{logits[i]} / double{temperature}) / sum;
      const auto at = found.find(static_cast<std::int32_t>(i));
      // 5 standard deviations of a binomial
      CHECK((at == found.end() ? 0 : at->second) ==
            Approx(p).margin(5 * std::sqrt(p * (1 - p) / 20000)));
    }
  }
}

TEST_CASE("top-k and top-p keep the likeliest tokens and their proportions", "[model]") {
  // probabilities 0.4, 0.3, 0.2, 0.1 in another order
  const std::vector<float> logits{std::log(0.2F), std::log(0.4F), std::log(0.1F), std::log(0.3F)};
  const auto two = frequencies({{.top_k = 2}, 1}, logits);
  REQUIRE(two.size() == 2);
  CHECK(two.at(1) == Approx(4.0 / 7).margin(0.02));
  CHECK(two.at(3) == Approx(3.0 / 7).margin(0.02));

  CHECK(frequencies({{.top_p = 0.39F}, 1}, logits).size() == 1);
  CHECK(frequencies({{.top_p = 0.69F}, 1}, logits) == frequencies({{.top_k = 2}, 1}, logits));
  CHECK(frequencies({{.top_p = 0.71F}, 1}, logits) == frequencies({{.top_k = 3}, 1}, logits));
  CHECK(frequencies({{.top_p = 0}, 1}, logits).size() == 1);
  // top-p counts within top-k: 0.4 / 0.7 is past 0.5
  CHECK(frequencies({{.top_k = 2, .top_p = 0.5F}, 1}, logits).size() == 1);
  CHECK(frequencies({{.top_k = 100}, 1}, logits).size() == 4);
}

TEST_CASE("equal seeds draw equal tokens", "[model]") {
  const auto logits = random_values(100, 4);
  random_sampler a({.top_k = 40, .top_p = 0.9F}, 5), b({.top_k = 40, .top_p = 0.9F}, 5),
      other({.top_k = 40, .top_p = 0.9F}, 6);
  bool equal = true, equal_other = true;
  for (int i = 0; i < 100; ++i) {
    auto x = logits, y = logits, z = logits;
    const auto token = a(x);
    equal &= token == b(y);
    equal_other &= token == other(z);
  }
  CHECK(equal);
  CHECK_FALSE(equal_other);
}

TEST_CASE("the likeliest tokens are enough for greedy and top-k", "[model]") {
  std::vector<float> logits(300);
  crayon::rng random(3);
  for (float& x : logits) x = std::round(4 * random.normal());  // with equal ones
  std::vector<crayon::ranked_token> likeliest(20);
  crayon::simd::scalar::summarize(logits.data(), logits.size(), likeliest);
  for (const crayon::model::sampling_options options :
       {crayon::model::sampling_options{.temperature = 0},
        crayon::model::sampling_options{.temperature = 0.8F, .top_k = 20},
        crayon::model::sampling_options{.temperature = 2, .top_k = 7, .top_p = 0.8F}}) {
    random_sampler all(options, 5), few(options, 5);
    for (int i = 0; i < 200; ++i) {
      auto copy = logits;
      const auto token = few.from(likeliest);
      REQUIRE(token);
      REQUIRE(*token == all(copy));
    }
  }
  CHECK(greedy{}.from(likeliest) == greedy{}(logits));
  CHECK_FALSE(random_sampler({.top_k = 21}, 1).from(likeliest));
  CHECK_FALSE(random_sampler({.top_p = 0.5F}, 1).from(likeliest));
  CHECK_FALSE(greedy{}.from({}));
}
