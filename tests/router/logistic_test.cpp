// SPDX-License-Identifier: MIT
#include <crayon/router/logistic.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

#include "../catch.hpp"

using crayon::matrix_view;
using crayon::router::fit_logistic;

TEST_CASE("logistic regression is the log-odds of two groups, and scikit-learn's", "[router]") {
  // 3 of 10 are right where x is 0, 8 of 10 where it is 1; the penalty is next to nothing.
  std::vector<float> group;
  std::vector<std::uint8_t> right;
  for (int i = 0; i < 20; ++i) {
    group.push_back(i < 10 ? 0.0F : 1.0F);
    right.push_back(i < 10 ? i < 3 : i < 18);
  }
  const auto odds = fit_logistic(matrix_view<const float>(group.data(), 20, 1), right, 1e-9);
  CHECK(odds.offset == Approx(std::log(3.0 / 7)).epsilon(1e-6));
  CHECK(odds.weight[0] == Approx(std::log(8.0 / 2) - std::log(3.0 / 7)).epsilon(1e-6));

  // scikit-learn 1.9.1, LogisticRegression(C=1 / penalty, tol=1e-12)
  const std::vector<double> x{0.5, -1, 1, 2, 2, 0, -1, 1, 0, -2, 1.5, 1, -0.5, 2};
  const std::vector<std::uint8_t> y{0, 1, 1, 0, 0, 1, 1};
  const matrix_view<const double> rows(x.data(), 7, 2);
  const auto one = fit_logistic(rows, y, 1.0);
  CHECK(one.weight[0] == Approx(0.8777276).epsilon(1e-4));
  CHECK(one.weight[1] == Approx(0.9416730).epsilon(1e-4));
  CHECK(one.offset == Approx(-0.5021533).epsilon(1e-4));
  const auto ten = fit_logistic(rows, y, 10.0);
  CHECK(ten.weight[0] == Approx(0.1736706).epsilon(1e-4));
  CHECK(ten.weight[1] == Approx(0.2480419).epsilon(1e-4));
  CHECK(ten.offset == Approx(0.1023240).epsilon(1e-4));
}
