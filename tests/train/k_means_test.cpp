// SPDX-License-Identifier: MIT
#include <crayon/train/k_means.hpp>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"

using namespace crayon;

namespace {

constexpr std::size_t width = 9;

/// `per` unit vectors around each of `clusters` axes.
std::vector<float> planted(std::size_t clusters, std::size_t per, float noise, rng& random) {
  std::vector<float> points;
  for (std::size_t i = 0; i < clusters * per; ++i) {
    std::vector<float> p(width);
    float squares = 0;
    for (std::size_t j = 0; j < width; ++j) {
      p[j] = noise * random.normal() + (j == i % clusters ? 1.0F : 0.0F);
      squares += p[j] * p[j];
    }
    for (const float x : p) points.push_back(x / std::sqrt(squares));
  }
  return points;
}

}  // namespace

TEMPLATE_TEST_CASE("planted clusters are found, centres are unit means", "[train]", simd::scalar,
                   simd::highway_dynamic) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    rng random(seed);
    const std::size_t k = 5, per = 20, n = k * per;
    const auto points = planted(k, per, 0.1F, random);
    const auto made = train::k_means<TestType>({points.data(), n, width}, k, random);
    REQUIRE(made);
    std::set<std::size_t> used;
    for (std::size_t c = 0; c < k; ++c) used.insert(made->assignment[c]);
    CHECK(used.size() == k);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(made->assignment[i] == made->assignment[i % k]);
    for (std::size_t c = 0; c < k; ++c) {
      CHECK(made->sizes[made->assignment[c]] == per);
      std::vector<double> mean(width);
      double squares = 0;
      for (std::size_t i = c; i < n; i += k) {
        for (std::size_t j = 0; j < width; ++j) mean[j] += double{points[i * width + j]};
      }
      for (const double x : mean) squares += x * x;
      for (std::size_t j = 0; j < width; ++j) {
        CHECK(made->centres[made->assignment[c] * width + j] ==
              Approx(mean[j] / std::sqrt(squares)).margin(1e-5));
      }
    }
    CHECK(made->distortion < 0.08);
  }
}

TEST_CASE("no cluster stays empty", "[train]") {
  // Two distinct points, four clusters: the seeding must repeat itself and reseeding must split.
  std::vector<float> points;
  for (int i = 0; i < 6; ++i) {
    points.push_back(i < 3 ? 1.0F : 0.0F);
    points.push_back(i < 3 ? 0.0F : 1.0F);
  }
  rng random(1);
  const auto made = train::k_means<simd::scalar>({points.data(), 6, 2}, 4, random);
  REQUIRE(made);
  for (const std::size_t size : made->sizes) CHECK(size > 0);
  for (const float x : made->centres) CHECK(std::isfinite(x));
}

TEST_CASE("the same seed gives the same clusters", "[train]") {
  rng random(7);
  const auto points = planted(6, 15, 0.6F, random);
  const auto run = [&] {
    rng seed(3);
    return *train::k_means<simd::scalar>({points.data(), 90, width}, 6, seed);
  };
  const auto a = run(), b = run();
  CHECK(a.assignment == b.assignment);
  CHECK(a.centres == b.centres);
  CHECK(a.iterations < 100);
}

TEST_CASE("k-means refuses what has no answer", "[train]") {
  std::vector<float> points{1, 0, 0, 1};
  rng random(1);
  const auto problem = [&](std::size_t k) {
    const auto made = train::k_means<simd::scalar>({points.data(), 2, 2}, k, random);
    return made ? "" : made.error().text;
  };
  CHECK(problem(2).empty());
  CHECK(problem(3) == "2 points for 3 clusters");
  CHECK(problem(0) == "2 points for 0 clusters");
  points[2] = std::numeric_limits<float>::quiet_NaN();
  CHECK(problem(2) == "point 1 is not finite");
}
