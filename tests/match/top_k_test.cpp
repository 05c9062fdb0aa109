// SPDX-License-Identifier: MIT
#include <crayon/match/top_k.hpp>

#include <limits>
#include <numeric>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/match/embedding.hpp>

#include "../catch.hpp"

using namespace crayon;

TEST_CASE("the largest weights stay in proportion and keep the sum") {
  std::vector<float> w{0.1F, 0.4F, 0.2F, 0.05F, 0.25F};
  match::keep_largest(w, 2);
  CHECK(w[0] == 0);
  CHECK(w[1] == Approx(0.4 / 0.65));
  CHECK(w[2] == 0);
  CHECK(w[3] == 0);
  CHECK(w[4] == Approx(0.25 / 0.65));

  std::vector<float> equal{0.25F, 0.25F, 0.25F, 0.25F};
  match::keep_largest(equal, 3);
  CHECK(equal[2] == Approx(1.0 / 3));
  CHECK(equal[3] == 0);  // the first ones among equals
  std::vector<float> zeros(3);
  match::keep_largest(zeros, 1);
  CHECK(zeros == std::vector<float>(3));
}

TEST_CASE("k adapters of a softmax over all samples") {
  rng random(8);
  for (int trial = 0; trial < 30; ++trial) {
    const std::size_t n = 1 + random.below(9), d = 2 + random.below(6), s = 1 + random.below(5);
    std::vector<float> index(n * d), samples(s * d);
    for (auto* rows : {&index, &samples}) {
      for (float& x : *rows) x = random.normal();
      for (std::size_t i = 0; i < rows->size(); i += d) {
        match::normalise(std::span(*rows).subspan(i, d));
      }
    }
    const matrix_view<const float> p(index.data(), n, d), f(samples.data(), s, d);
    const auto all = match::cosine_softmax{0.3F}.weights(p, f);
    CHECK(match::top_k{0.3F, 0}.weights(p, f) == all);
    CHECK(match::top_k{0.3F, n}.weights(p, f) == all);
    const std::size_t k = 1 + random.below(n);
    const auto w = match::top_k{0.3F, k}.weights(p, f);
    CHECK(std::accumulate(w.begin(), w.end(), 0.0) == Approx(1));
    CHECK(static_cast<std::size_t>(
              n - static_cast<std::size_t>(std::count(w.begin(), w.end(), 0.0F))) == k);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        if (w[i] > 0 && w[j] == 0) CHECK(all[i] >= all[j]);
        if (w[i] > 0 && w[j] > 0) CHECK(w[i] * all[j] == Approx(w[j] * all[i]));
      }
    }
  }
}

TEST_CASE("top_k checks its temperature") {
  CHECK(match::top_k::with(0.05F, 3)->k == 3);
  CHECK(match::top_k::with(-1, 3).error().text == "tau is -1, needs a positive number");
  CHECK_FALSE(match::top_k::with(std::numeric_limits<float>::infinity(), 3));
}
