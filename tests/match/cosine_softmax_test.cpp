// SPDX-License-Identifier: MIT
#include <crayon/match/cosine_softmax.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/match/embedding.hpp>

#include "../catch.hpp"

using namespace crayon;
using match::cosine_softmax;

namespace {

std::vector<float> unit_rows(rng& random, std::size_t rows, std::size_t cols) {
  std::vector<float> m(rows * cols);
  for (float& x : m) x = random.normal();
  for (std::size_t r = 0; r < rows; ++r) {
    match::normalise(std::span(m).subspan(r * cols, cols));
  }
  return m;
}

}  // namespace

TEST_CASE("weights computed by hand") {
  // Cosines of (1, 0) with (1, 0), (0, 1), (-1, 0), (0.6, 0.8): 1, 0, -1, 0.6. With tau = 0.5 the
  // exponents are 2, 0, -2, 1.2 and the sum of exponentials 7.3890561 + 1 + 0.1353353 + 3.3201169.
  const std::vector<float> index{1, 0, 0, 1, -1, 0, 0.6F, 0.8F};
  const std::vector<float> sample{1, 0};
  const auto w = cosine_softmax{0.5F}.weights({index.data(), 4, 2}, {sample.data(), 1, 2});
  REQUIRE(w.size() == 4);
  CHECK(w[0] == Approx(7.3890561 / 11.8445083));
  CHECK(w[1] == Approx(1 / 11.8445083));
  CHECK(w[2] == Approx(0.1353353 / 11.8445083));
  CHECK(w[3] == Approx(3.3201169 / 11.8445083));
}

TEST_CASE("several samples give the mean of their weights, not the weights of their mean") {
  const std::vector<float> index{1, 0, 0, 1};
  const std::vector<float> samples{1, 0, 0, 1, 1, 0};
  const auto w = cosine_softmax{0.25F}.weights({index.data(), 2, 2}, {samples.data(), 3, 2});
  const double near = std::exp(4.0) / (std::exp(4.0) + 1);  // cosines 1 and 0
  CHECK(w[0] == Approx((2 * near + (1 - near)) / 3));
  CHECK(w[1] == Approx((near + 2 * (1 - near)) / 3));
}

TEST_CASE("weights are positive, sum to one and follow the order of the index") {
  rng random(8);
  for (int repeat = 0; repeat < 50; ++repeat) {
    const std::size_t n = 1 + random.below(12), d = 1 + random.below(40), s = 1 + random.below(9);
    const auto index = unit_rows(random, n, d), samples = unit_rows(random, s, d);
    const cosine_softmax matcher{0.01F + random.uniform()};
    const auto w = matcher.weights({index.data(), n, d}, {samples.data(), s, d});
    double sum = 0;
    for (const float x : w) {
      CHECK(x >= 0);
      sum += double{x};
    }
    CHECK(sum == Approx(1).epsilon(1e-5));

    std::vector<std::size_t> order(n);
    for (std::size_t i = 0; i < n; ++i) order[i] = i;
    random.shuffle(order);
    std::vector<float> permuted;
    for (const std::size_t i : order) {
      permuted.insert(permuted.end(), index.begin() + static_cast<std::ptrdiff_t>(i * d),
                      index.begin() + static_cast<std::ptrdiff_t>((i + 1) * d));
    }
    const auto v = matcher.weights({permuted.data(), n, d}, {samples.data(), s, d});
    for (std::size_t i = 0; i < n; ++i) CHECK(v[i] == Approx(w[order[i]]).epsilon(1e-5));
  }
}

TEST_CASE("a small tau picks the nearest, a large one is uniform, neither overflows") {
  const std::vector<float> index{1, 0, 0.8F, 0.6F};
  const std::vector<float> sample{1, 0};
  const auto sharp = cosine_softmax{1e-6F}.weights({index.data(), 2, 2}, {sample.data(), 1, 2});
  CHECK(sharp[0] == 1);
  CHECK(sharp[1] == 0);
  const auto flat = cosine_softmax{1e6F}.weights({index.data(), 2, 2}, {sample.data(), 1, 2});
  CHECK(flat[0] == Approx(0.5));
}

TEST_CASE("a tau that is not a positive number is an error") {
  CHECK(cosine_softmax::with_tau(0.05F)->tau == 0.05F);
  CHECK(cosine_softmax::with_tau(0).error().text == "tau is 0, needs a positive number");
  CHECK_FALSE(cosine_softmax::with_tau(-1));
  CHECK_FALSE(cosine_softmax::with_tau(std::numeric_limits<float>::quiet_NaN()));
  CHECK_FALSE(cosine_softmax::with_tau(std::numeric_limits<float>::infinity()));
}
