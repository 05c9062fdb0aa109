// SPDX-License-Identifier: MIT
#include <crayon/router/index_distance.hpp>
#include <crayon/router/fit_mahalanobis.hpp>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <crayon/match/embedding.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include "../catch.hpp"

namespace {

using crayon::matrix_view;
using namespace crayon::router;

struct distance_fixture {
  static constexpr std::size_t d = 12;
  std::vector<float> own, background, queries, unit;
  std::vector<std::size_t> group{0, 0, 0, 1, 1, 1, 2, 2, 2};
  double own_shrinkage = 0, background_shrinkage = 0;
  struct expected_row {
    double nearest, fourth, full, rank_4, relative, background;
  };
  std::vector<expected_row> expected;

  distance_fixture() {
    std::ifstream file(CRAYON_FIXTURES "/distances.tsv");
    std::string line, name;
    while (std::getline(file, line)) {
      std::istringstream in(line);
      in >> name;
      if (name == "shrinkage") in >> own_shrinkage >> background_shrinkage;
      if (name == "distances") {
        expected_row e{};
        in >> e.nearest >> e.fourth >> e.full >> e.rank_4 >> e.relative >> e.background;
        expected.push_back(e);
      }
      auto* to = name == "own" ? &own : name == "background" ? &background : &queries;
      for (float x = 0; name != "shrinkage" && name != "distances" && in >> x;) to->push_back(x);
    }
    REQUIRE(own.size() == 9 * d);
    REQUIRE(expected.size() == 6);
    unit = own;
    for (std::size_t i = 0; i < 9; ++i) crayon::match::normalise(std::span(unit).subspan(i * d, d));
  }
  [[nodiscard]] matrix_view<const float> task() const { return {own.data(), 9, d}; }
  [[nodiscard]] std::span<const float> query(std::size_t i) const {
    return std::span(queries).subspan(i * d, d);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("distances in index space are those of numpy, scipy and scikit-learn",
                   "[router]", crayon::simd::scalar, crayon::simd::highway_dynamic) {
  const distance_fixture data;
  constexpr std::size_t d = distance_fixture::d;
  const auto full = fit_mahalanobis(data.task(), data.group);
  const auto low = fit_mahalanobis(data.task(), data.group, {.directions = 4});
  const auto all = fit_mahalanobis({data.background.data(), 30, d});
  REQUIRE(full);
  REQUIRE(low);
  REQUIRE(all);
  CHECK(full->shrinkage == Approx(data.own_shrinkage).epsilon(1e-6));
  CHECK(all->shrinkage == Approx(data.background_shrinkage).epsilon(1e-6));
  CHECK(full->excess.size() == 6);  // 9 samples of 3 groups: the covariance has no more
  CHECK(low->excess.size() == 4);
  const relative_mahalanobis relative{*full, *all};
  std::vector<float> scratch(relative.scratch_size());
  for (std::size_t i = 0; i < data.expected.size(); ++i) {
    CAPTURE(i);
    const auto& e = data.expected[i];
    const auto x = data.query(i);
    const matrix_view<const float> rows(data.unit.data(), 9, d);
    CHECK(cosine_distance<TestType>(rows, x, 1, scratch) == Approx(e.nearest).margin(1e-6));
    CHECK(cosine_distance<TestType>(rows, x, 4, scratch) == Approx(e.fourth).margin(1e-6));
    CHECK(full->template measure<TestType>(x, scratch) == Approx(e.full).epsilon(2e-5));
    CHECK(low->template measure<TestType>(x, scratch) == Approx(e.rank_4).epsilon(2e-5));
    CHECK(all->template measure<TestType>(x, scratch) == Approx(e.background).epsilon(2e-5));
    CHECK(relative.template measure<TestType>(x, scratch) == Approx(e.relative).epsilon(5e-5));
  }
}

TEST_CASE("what has no distance is not measured", "[router]") {
  const distance_fixture data;
  const auto made = fit_mahalanobis(data.task());
  REQUIRE(made);
  CHECK(made->means == 1);
  std::vector<float> scratch(made->scratch_size());
  std::vector<float> x(distance_fixture::d, 1);
  const matrix_view<const float> rows(data.unit.data(), 9, x.size());
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    x[3] = bad;
    CHECK(std::isnan(made->measure(x, scratch)));
    CHECK(std::isnan(cosine_distance(rows, x, 1, scratch)));
  }
  const std::vector<float> zero(x.size());
  CHECK(std::isnan(cosine_distance(rows, zero, 1, scratch)));
  CHECK(std::isnan(cosine_distance(rows, data.query(0), 10, scratch)));
  CHECK(std::isnan(cosine_distance({}, data.query(0), 1, scratch)));
}

TEST_CASE("embeddings without a covariance are refused", "[router]") {
  const distance_fixture data;
  const auto text_of = [](const auto& made) { return made ? std::string() : made.error().text; };
  CHECK_FALSE(fit_mahalanobis({data.own.data(), 1, 12}));
  CHECK_FALSE(fit_mahalanobis(data.task(), {}, {.directions = 13}));
  CHECK_FALSE(fit_mahalanobis(data.task(), {}, {.shrinkage = 1.5F}));
  // 9 samples in 12 dimensions: without shrinkage some directions have no variance.
  CHECK(text_of(fit_mahalanobis(data.task(), {}, {.shrinkage = 0})).find("shrinkage") !=
        std::string::npos);
  CHECK(fit_mahalanobis({data.background.data(), 30, 12}, {}, {.shrinkage = 0}));
  const std::vector<std::size_t> hole{0, 0, 0, 0, 2, 2, 2, 2, 2};
  CHECK(text_of(fit_mahalanobis(data.task(), hole)).find("group 1") != std::string::npos);
  std::vector<float> same(24, 1);
  CHECK_FALSE(fit_mahalanobis({same.data(), 2, 12}));
  same[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(fit_mahalanobis({same.data(), 2, 12}));
}
