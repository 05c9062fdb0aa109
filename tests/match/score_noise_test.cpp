// SPDX-License-Identifier: MIT
#include <crayon/match/score_noise.hpp>

#include <cmath>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/match/embedding.hpp>

#include "../catch.hpp"

using namespace crayon;
using match::gaussian_delta;
using match::gaussian_sigma;

namespace {

/// Unit rows; `spread` 0 puts them all into two opposite directions.
std::vector<float> noise_rows(std::size_t n, std::size_t width, float spread, rng& random) {
  std::vector<float> rows(n * width);
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = std::span(rows).subspan(i * width, width);
    for (float& x : row) x = spread * random.normal();
    row[0] += (1 - spread) * (random.below(2) == 0 ? 1.0F : -1.0F);
    match::normalise(row);
  }
  return rows;
}

double noise_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
  }
  return std::sqrt(sum);
}

/// The largest change of the weights that was found when one sample is replaced by another.
template <class M>
double largest_change(const M& matcher, std::size_t samples, std::uint64_t seed) {
  rng random(seed);
  double largest = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    const std::size_t n = 2 + random.below(6), width = 2 + random.below(8);
    const float spread = random.uniform();
    const auto index = noise_rows(n, width, spread, random);
    auto own = noise_rows(samples, width, spread, random);
    const matrix_view<const float> rows(index.data(), n, width);
    const auto before = matcher.weights(rows, {own.data(), samples, width});
    const auto other = noise_rows(1, width, spread, random);
    const std::size_t at = random.below(samples);
    std::copy(other.begin(), other.end(), own.begin() + static_cast<std::ptrdiff_t>(at * width));
    const auto after = matcher.weights(rows, {own.data(), samples, width});
    largest = std::max(largest, noise_distance(before, after));
  }
  return largest;
}

}  // namespace

TEST_CASE("replacing one sample changes the scores by at most the bound, and almost by it") {
  for (const std::size_t samples : {1U, 2U, 8U, 20U}) {
    const double bound = match::score_sensitivity(samples);
    CHECK(bound == Approx(std::sqrt(2.0) / static_cast<double>(samples)));
    for (const double found : {largest_change(match::cosine_softmax{0.05F}, samples, samples),
                               largest_change(match::centroid{}, samples, samples)}) {
      CAPTURE(samples);
      CHECK(found <= bound * (1 + 1e-5));
      CHECK(found > 0.99 * bound);
    }
    // A high temperature hides a sample better; the bound holds all the same.
    CHECK(largest_change(match::cosine_softmax{1}, samples, samples) < 0.9 * bound);
  }
  // Keeping the largest is no mean over samples: before the noise it would break the bound.
  CHECK(largest_change(match::top_k{0.05F, 1}, 20, 3) > 2 * match::score_sensitivity(20));
}

TEST_CASE("sigma is that of the analytic Gaussian mechanism") {
  // scipy: brentq on theorem 8 of Balle and Wang with norm.cdf, sensitivity 1.
  struct row {
    double epsilon, delta, sigma;
  };
  for (const auto& [epsilon, delta, sigma] :
       {row{0.1, 1e-5, 30.749566131977726}, row{1, 1e-5, 3.7306316348159525},
        row{1, 1e-6, 4.2246788893268}, row{3, 1e-5, 1.3905934566745382},
        row{8, 1e-3, 0.48001375248010336}, row{30, 1e-9, 0.25906382889398216}}) {
    const auto found = gaussian_sigma({epsilon, delta}, 0.25);
    REQUIRE(found);
    CHECK(*found == Approx(0.25 * sigma).epsilon(1e-9));
    CHECK(gaussian_delta(epsilon, 0.25 / *found) == Approx(delta).epsilon(1e-6));
    if (epsilon < 1) CHECK(*found < 0.25 * std::sqrt(2 * std::log(1.25 / delta)) / epsilon);
  }
  for (const auto& wrong : {match::privacy{0, 1e-5}, match::privacy{-1, 1e-5},
                            match::privacy{NAN, 1e-5}, match::privacy{INFINITY, 1e-5},
                            match::privacy{1, 0}, match::privacy{1, 1}, match::privacy{1, NAN}}) {
    CHECK_FALSE(gaussian_sigma(wrong, 1));
  }
}

TEST_CASE("the noise has the stated deviation, no mean and no correlation") {
  rng random(5);
  constexpr std::size_t count = 200'000;
  for (const double sigma : {0.01, 3.0}) {
    std::vector<double> noise(count, 0.25);
    match::add_noise(noise, sigma, random);
    double mean = 0, squares = 0, neighbours = 0, beyond = 0;
    for (double& x : noise) x = (x - 0.25) / sigma;
    for (std::size_t i = 0; i < count; ++i) {
      mean += noise[i] / count;
      squares += noise[i] * noise[i] / count;
      neighbours += i == 0 ? 0 : noise[i] * noise[i - 1] / count;
      beyond += std::abs(noise[i]) > 1.959964 ? 1.0 / count : 0;
    }
    CHECK(std::abs(mean) < 4 / std::sqrt(double{count}));
    CHECK(squares == Approx(1).epsilon(0.015));
    CHECK(std::abs(neighbours) < 4 / std::sqrt(double{count}));
    CHECK(beyond == Approx(0.05).epsilon(0.05));
  }
}

TEST_CASE("noisy scores become scores again: the nearest ones") {
  CHECK(match::nearest_scores(std::vector{0.2, 0.3, 0.5}) == std::vector{0.2F, 0.3F, 0.5F});
  CHECK(match::nearest_scores(std::vector{2.0, -1.0, 0.5}) == std::vector{1.0F, 0.0F, 0.0F});
  CHECK(match::nearest_scores(std::vector{-5.0, -5.0}) == std::vector{0.5F, 0.5F});
  rng random(7);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<double> noisy(1 + random.below(20));
    for (double& x : noisy) x = double{random.normal()};
    const auto near = match::nearest_scores(noisy);
    double sum = 0, distance = 0;
    for (std::size_t i = 0; i < near.size(); ++i) {
      CHECK(near[i] >= 0);
      sum += double{near[i]};
      distance += std::pow(noisy[i] - double{near[i]}, 2);
    }
    CHECK(sum == Approx(1).epsilon(1e-5));
    for (int other = 0; other < 20; ++other) {  // no other point of the simplex is nearer
      double all = 0, far = 0;
      std::vector<double> point(near.size());
      for (double& x : point) all += x = std::pow(double{random.uniform()}, 4);
      for (std::size_t i = 0; i < point.size(); ++i) far += std::pow(noisy[i] - point[i] / all, 2);
      CHECK(far >= distance - 1e-5);
    }
  }
}

TEST_CASE("private weights: the same bits give the same, the system's give others each time") {
  rng random(1);
  const auto index = noise_rows(5, 16, 1, random), own = noise_rows(8, 16, 1, random);
  const matrix_view<const float> rows(index.data(), 5, 16), samples(own.data(), 8, 16);
  const match::privacy strict{1, 1e-5}, loose{90, 1e-2};
  rng one(3), two(3);
  const auto first = match::private_weights(match::cosine_softmax{}, rows, samples, strict, one);
  const auto second = match::private_weights(match::cosine_softmax{}, rows, samples, strict, two);
  REQUIRE(first);
  CHECK(*first == *second);
  const auto third = match::private_weights(match::cosine_softmax{}, rows, samples, strict);
  const auto fourth = match::private_weights(match::cosine_softmax{}, rows, samples, strict);
  REQUIRE(third);
  CHECK(*third != *fourth);
  const auto close = match::private_weights(match::cosine_softmax{}, rows, samples, loose);
  CHECK(noise_distance(*close, match::cosine_softmax{}.weights(rows, samples)) < 0.2);
  const auto few = match::private_weights(match::top_k{0.1F, 2}, rows, samples, strict);
  REQUIRE(few);
  CHECK(std::count(few->begin(), few->end(), 0.0F) >= 3);
  CHECK_FALSE(match::private_weights(match::centroid{}, rows, samples, {0, 0.1}));
}
