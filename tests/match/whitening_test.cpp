// SPDX-License-Identifier: MIT
#include <crayon/match/whitening.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

using namespace crayon;
using match::fit_whitening;
using match::whitening;

namespace {

/// n points (n, d) of a random mixture of d sources around a centre of 5.
std::vector<float> mixture(rng& random, std::size_t n, std::size_t d) {
  std::vector<float> mix(d * d), points(n * d, 5.0F);
  for (float& x : mix) x = random.normal();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t s = 0; s < d; ++s) {
      const float source = random.normal();
      for (std::size_t j = 0; j < d; ++j) points[i * d + j] += mix[s * d + j] * source;
    }
  }
  return points;
}

/// P (x - centre) of every point, without the normalisation that `place` adds: (n, k).
std::vector<double> whitened(const match::index_space& space, const std::vector<float>& points) {
  const std::size_t d = space.centre.size(), k = space.projection.size() / d;
  std::vector<double> out;
  for (std::size_t i = 0; i < points.size() / d; ++i) {
    for (std::size_t r = 0; r < k; ++r) {
      double sum = 0;
      for (std::size_t j = 0; j < d; ++j) {
        sum += double{space.projection[r * d + j]} *
               (double{points[i * d + j]} - double{space.centre[j]});
      }
      out.push_back(sum);
    }
  }
  return out;
}

double covariance(const std::vector<double>& y, std::size_t k, std::size_t a, std::size_t b) {
  double sum = 0;
  for (std::size_t i = 0; i < y.size() / k; ++i) sum += y[i * k + a] * y[i * k + b];
  return sum / static_cast<double>(y.size() / k);
}

}  // namespace

TEST_CASE("whitened embeddings have mean zero and covariance one") {
  rng random(12);
  constexpr std::size_t n = 400, d = 6;
  const auto points = mixture(random, n, d);
  const matrix_view<const float> rows(points.data(), n, d);
  for (const auto kind : {whitening::pca, whitening::zca}) {
    const auto space = fit_whitening(rows, kind, 0, 1, 0);
    REQUIRE(space);
    CHECK(space->size(d) == d);
    const auto y = whitened(*space, points);
    for (std::size_t a = 0; a < d; ++a) {
      for (std::size_t b = 0; b < d; ++b) {
        CHECK(covariance(y, d, a, b) == Approx(a == b ? 1 : 0).margin(2e-4));
      }
    }
    if (kind == whitening::zca) {  // the only whitening that is symmetric
      for (std::size_t a = 0; a < d; ++a) {
        for (std::size_t b = 0; b < a; ++b) {
          CHECK(space->projection[a * d + b] == Approx(space->projection[b * d + a]).margin(1e-5));
        }
      }
    }
  }
}

TEST_CASE("cosines are the same in both kinds; fewer directions are the leading ones") {
  rng random(13);
  constexpr std::size_t n = 60, d = 5;
  auto points = mixture(random, n, d);
  for (std::size_t i = 0; i < n; ++i) points[i * d] = 40 * random.normal();  // by far the largest
  const matrix_view<const float> rows(points.data(), n, d);
  const auto pca = fit_whitening(rows, whitening::pca), zca = fit_whitening(rows, whitening::zca);
  REQUIRE(pca);
  REQUIRE(zca);
  const auto cosine = [&](const match::index_space& space, std::size_t a, std::size_t b) {
    std::vector<float> f(d), g(d);
    space.place({rows.row(a), d}, f);
    space.place({rows.row(b), d}, g);
    double sum = 0;
    for (std::size_t j = 0; j < d; ++j) sum += double{f[j]} * double{g[j]};
    return sum;
  };
  for (std::size_t i = 1; i < n; ++i) {
    CHECK(cosine(*pca, 0, i) == Approx(cosine(*zca, 0, i)).margin(1e-4));
  }
  const auto one = fit_whitening(rows, whitening::pca, 1);
  REQUIRE(one);
  CHECK(one->size(d) == 1);
  CHECK(std::abs(double{one->projection[0]}) * 40 == Approx(1).epsilon(0.3));
  for (std::size_t j = 1; j < d; ++j) CHECK(std::abs(one->projection[j]) < 0.01F);
}

TEST_CASE("fewer embeddings than elements: shrinkage, of each part to its own variance") {
  rng random(14);
  constexpr std::size_t n = 8, d = 12;
  std::vector<float> points(n * d);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < d; ++j) points[i * d + j] = (j < 6 ? 1.0F : 1e3F) * random.normal();
  }
  const matrix_view<const float> rows(points.data(), n, d);
  CHECK_FALSE(fit_whitening(rows, whitening::zca, 0, 1, 0));  // no variance in 5 directions
  const auto space = fit_whitening(rows, whitening::zca, 0, 2, 1);
  REQUIRE(space);  // all shrunk: only the parts' scales are left
  for (std::size_t a = 0; a < d; ++a) {
    for (std::size_t b = 0; b < d; ++b) {
      const float p = space->projection[a * d + b];
      if (a != b) {
        CHECK(std::abs(p) < 1e-5F);
      } else {
        CHECK(p == Approx(a < 6 ? 1 : 1e-3).epsilon(0.3));
        CHECK(p == Approx(space->projection[a < 6 ? 0 : d * d - 1]).epsilon(1e-4));
      }
    }
  }
}

TEST_CASE("what cannot be whitened is refused") {
  std::vector<float> points{1, 2, 3, 4, 5, 7};
  const matrix_view<const float> rows(points.data(), 3, 2);
  CHECK(fit_whitening(rows, whitening::pca, 3).error().text ==
        "3 embeddings of length 2 in 1 parts for 3 directions");
  CHECK_FALSE(fit_whitening(rows, whitening::pca, 0, 3));
  CHECK_FALSE(fit_whitening(rows.rows_from(0, 1), whitening::pca));
  CHECK(fit_whitening(rows, whitening::pca, 0, 1, 1.5F).error().text ==
        "shrinkage is 1.500000, needs 0 to 1");
  points[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(fit_whitening(rows, whitening::pca).error().text ==
        "an embedding is not finite, or too large");
  points[3] = 1e30F;
  CHECK_FALSE(fit_whitening(rows, whitening::pca));
}
