// SPDX-License-Identifier: MIT
#include <crayon/match/few_shot_search.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

using namespace crayon;
using match::few_shot_search;
using match::search_options;
using weights_view = std::span<const float>;

namespace {

/// sum_j scale_j (R (w - optimum))_j^2 with R a random rotation's worth of Householder reflections.
struct ellipsoid {
  std::vector<double> optimum, scale, axis;

  ellipsoid(std::size_t n, double condition, std::uint64_t seed) {
    rng random(seed);
    double squares = 0;
    for (std::size_t j = 0; j < n; ++j) {
      optimum.push_back(double{random.normal()});
      scale.push_back(
          n == 1 ? 1 : std::pow(condition, static_cast<double>(j) / static_cast<double>(n - 1)));
      axis.push_back(double{random.normal()});
      squares += axis.back() * axis.back();
    }
    for (double& x : axis) x /= std::sqrt(squares);
  }

  result<double> operator()(weights_view w) const {
    double along = 0, sum = 0;
    for (std::size_t j = 0; j < w.size(); ++j) along += axis[j] * (double{w[j]} - optimum[j]);
    for (std::size_t j = 0; j < w.size(); ++j) {
      const double x = double{w[j]} - optimum[j] - 2 * along * axis[j];
      sum += scale[j] * x * x;
    }
    return sum;
  }
};

}  // namespace

TEST_CASE("the search finds the optimum of a rotated ellipsoid") {
  for (const std::size_t n : {1U, 2U, 5U, 12U}) {
    const ellipsoid f(n, 1e3, n);
    const std::vector<float> start(n, 0.1F);
    search_options o;
    o.evaluations = 6000;
    const auto found = few_shot_search(start, f, o);
    REQUIRE(found);
    INFO("n " << n << ", " << found->evaluations << " evaluations");
    CHECK(found->loss < 1e-6);
    CHECK(found->start_loss == *f(start));
    CHECK(*f(found->weights) == found->loss);
    for (std::size_t j = 0; j < n; ++j) {
      CHECK(double{found->weights[j]} == Approx(f.optimum[j]).margin(1e-3));
    }
  }
}

TEST_CASE("the search follows a curved valley") {
  const auto rosenbrock = [](weights_view w) -> result<double> {
    double sum = 0;
    for (std::size_t j = 0; j + 1 < w.size(); ++j) {
      const double x = double{w[j]}, y = double{w[j + 1]};
      sum += 100 * (y - x * x) * (y - x * x) + (1 - x) * (1 - x);
    }
    return sum;
  };
  search_options o;
  o.evaluations = 8000;
  const auto found = few_shot_search(std::vector<float>(5), rosenbrock, o);
  REQUIRE(found);
  CHECK(found->loss < 1e-6);
  for (const float w : found->weights) CHECK(w == Approx(1).margin(1e-2));
}

TEST_CASE("a bounded number of evaluations, never a worse result, the same from the same seed") {
  const ellipsoid f(6, 100, 7);
  for (const std::size_t evaluations : {1U, 5U, 10U, 137U}) {
    std::size_t calls = 0;
    search_options o;
    o.evaluations = evaluations;
    const auto counted = [&](weights_view w) {
      ++calls;
      return f(w);
    };
    const std::vector<float> start(6, -0.3F);
    const auto found = few_shot_search(start, counted, o);
    REQUIRE(found);
    CHECK(calls == found->evaluations);
    CHECK(calls <= evaluations);
    CHECK(found->loss <= found->start_loss);
    if (calls == 1) CHECK(found->weights == start);
    const auto again = few_shot_search(start, f, o);
    CHECK(again->weights == found->weights);
    CHECK(again->loss == found->loss);
    o.seed = 2;
    if (evaluations > 9) CHECK(few_shot_search(start, f, o)->weights != found->weights);
  }
}

TEST_CASE("the l1 term draws weights to zero") {
  const auto flat = [](weights_view w) -> result<double> {
    return (double{w[0]} - 1) * (double{w[0]} - 1);
  };
  search_options o;
  o.evaluations = 3000;
  o.l1 = 0.1F;
  const auto found = few_shot_search(std::vector<float>{0.5F, 0.5F}, flat, o);
  REQUIRE(found);
  CHECK(found->weights[0] == Approx(0.95).margin(1e-2));  // 2 (w - 1) + 0.1 = 0
  CHECK(found->weights[1] == Approx(0).margin(1e-3));
}

TEST_CASE("losses that are no numbers lose, errors come back") {
  const ellipsoid f(3, 10, 2);
  search_options o;
  o.evaluations = 2000;
  const auto half = [&](weights_view w) -> result<double> {
    if (w[0] < 0) return std::numeric_limits<double>::quiet_NaN();
    return f(w);
  };
  const auto found = few_shot_search(std::vector<float>{0.5F, 0, 0}, half, o);
  REQUIRE(found);
  CHECK(std::isfinite(found->loss));
  CHECK(found->weights[0] >= 0);
  CHECK(few_shot_search(std::vector<float>{-1, 0, 0}, half, o).error().text ==
        "the loss of the weights to start from is not finite");

  std::size_t calls = 0;
  const auto fails = [&](weights_view) -> result<double> {
    if (++calls == 20) return error{errc::bad_value, "the twentieth"};
    return 1.0;
  };
  CHECK(few_shot_search(std::vector<float>(3), fails, o).error().text == "the twentieth");
  CHECK(few_shot_search(std::vector<float>(), f, o).error().text ==
        "a search over 0 weights with 2000 evaluations, step 0.200000, l1 0.000000, population 0");
  o.step = -1;
  CHECK_FALSE(few_shot_search(std::vector<float>(3), f, o));
}
