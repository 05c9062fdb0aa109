// SPDX-License-Identifier: MIT
#include <crayon/router/quantile_sketch.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

TEST_CASE("a quantile of the sketch is within 2 % of that of all values, sorted", "[router]") {
  using sketch = crayon::router::log_prob_sketch;
  crayon::rng random(5);
  for (const std::size_t count : std::vector<std::size_t>{1, 2, 17, 5000}) {
    sketch seen;
    std::vector<float> all;
    for (std::size_t i = 0; i < count; ++i) {  // from 2^-10 to 30 nats, every scale alike
      all.push_back(-static_cast<float>(std::exp(std::log(0x1p-10) + 10.3 * random.uniform())));
      seen.add(all.back());
    }
    seen.add(std::numeric_limits<float>::quiet_NaN());
    REQUIRE(seen.count() == count);
    std::sort(all.begin(), all.end());
    for (const double q : {0.0, 0.1, 0.5, 0.9, 1.0}) {
      const auto at = static_cast<std::size_t>(q * static_cast<double>(count - 1));
      CHECK(std::fabs(seen.quantile(q) - all[at]) <= 0.0201 * std::fabs(double{all[at]}));
    }
  }
  sketch ends;
  ends.add(-1e-4F);
  CHECK(ends.quantile(0.5) == 0);
  ends.add(-std::numeric_limits<float>::infinity());
  CHECK(ends.quantile(0) == Approx(-31).epsilon(0.03));
}
