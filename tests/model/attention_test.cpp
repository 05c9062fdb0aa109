// SPDX-License-Identifier: MIT
#include <crayon/model/attention.hpp>

#include "fixture.hpp"

TEMPLATE_LIST_TEST_CASE("attention is softmax(K q / sqrt(d))^T V", "[model]", every_backend) {
  for (const std::size_t d : {2UL, 8UL, 24UL, 64UL}) {
    for (const std::size_t n : {1UL, 3UL, 17UL, 65UL}) {
      const auto q = random_values(d, 1), k = random_values(n * d, 2), v = random_values(n * d, 3);
      std::vector<double> weight(n), expected(d);
      double sum = 0;
      for (std::size_t t = 0; t < n; ++t) {
        double score = 0;
        for (std::size_t j = 0; j < d; ++j) score += double{q[j]} * double{k[t * d + j]};
        sum += weight[t] = std::exp(score / std::sqrt(static_cast<double>(d)));
      }
      for (std::size_t t = 0; t < n; ++t) {
        for (std::size_t j = 0; j < d; ++j) expected[j] += weight[t] / sum * double{v[t * d + j]};
      }
      std::vector<float> scores(n), out(d);
      crayon::model::attend<TestType>(q.data(), {k.data(), n, d}, {v.data(), n, d}, scores.data(),
                                      out.data());
      CHECK(relative_distance(out, expected) < 1e-5);
    }
  }
}
