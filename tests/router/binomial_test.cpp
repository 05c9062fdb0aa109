// SPDX-License-Identifier: MIT
#include <crayon/router/binomial.hpp>

#include <fstream>
#include <string>

#include "../catch.hpp"

namespace {

using crayon::router::binomial_cdf;
using crayon::router::binomial_pmf;
using crayon::router::clopper_pearson_upper;

}  // namespace

TEST_CASE("binomial probabilities are exact, Clopper-Pearson bounds are scipy's", "[router]") {
  std::ifstream file(CRAYON_FIXTURES "/binomial.tsv");
  std::size_t k = 0, n = 0, rows = 0;
  double p = 0, pmf = 0, cdf = 0, delta = 0, upper = 0;
  while (file >> k >> n >> p >> pmf >> cdf >> delta >> upper) {
    CAPTURE(k, n, p, delta);
    CHECK(binomial_pmf(k, n, p) == Approx(pmf).epsilon(1e-11));
    CHECK(binomial_cdf(k, n, p) == Approx(cdf).epsilon(1e-11));
    CHECK(clopper_pearson_upper(k, n, delta) == Approx(upper).epsilon(1e-11));
    ++rows;
  }
  CHECK(rows == 20);
}

TEST_CASE("binomial probabilities sum to one, and tails are sums", "[router]") {
  for (const std::size_t n : {1U, 2U, 15U, 16U, 17U, 257U}) {
    for (const double p : {0.0, 1e-300, 0.03, 0.5, 0.97, 1.0}) {
      double sum = 0;
      for (std::size_t k = 0; k <= n; ++k) {
        sum += binomial_pmf(k, n, p);
        CAPTURE(n, p, k);
        REQUIRE(binomial_cdf(k, n, p) == Approx(sum).epsilon(1e-12));
      }
      CHECK(sum == Approx(1).epsilon(1e-12));
    }
  }
  CHECK(clopper_pearson_upper(0, 0, 0.1) == 1);
}
