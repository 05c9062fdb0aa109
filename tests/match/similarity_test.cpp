// SPDX-License-Identifier: MIT
#include <crayon/match/similarity.hpp>

#include <crayon/match/centroid.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/top_k.hpp>

#include <cmath>
#include <vector>

#include "../catch.hpp"

using namespace crayon;

TEST_CASE("the nearest of several centroids counts, whatever their order") {
  // Adapter 0: (1, 0) and (0, 1). Adapter 1: (-1, 0) and (0.6, 0.8).
  const std::vector<float> vectors{2, 0, 0, 3, -1, 0, 0.6F, 0.8F};
  const auto index = match::index_of(vectors, 2, 2);
  REQUIRE(index.size() == 8);
  for (const std::size_t row : {0U, 4U}) {
    double squares = 0;
    for (std::size_t j = 0; j < 4; ++j) squares += double{index[row + j]} * double{index[row + j]};
    CHECK(squares == Approx(1));  // what a pool asks of a row
  }
  const std::vector<float> sample{0.8F, 0.6F};
  CHECK(match::nearest_cosine(std::span(index).first(4), sample) == Approx(0.8));
  CHECK(match::nearest_cosine(std::span(index).last(4), sample) == Approx(0.96));
  const std::vector<float> swapped{index[2], index[3], index[0], index[1]};
  CHECK(match::nearest_cosine(swapped, sample) == Approx(0.8));
}

TEST_CASE("every matcher takes an index of several centroids") {
  const auto index = match::index_of(std::vector<float>{1, 0, 0, 1, -1, 0, 0.6F, 0.8F}, 2, 2);
  const matrix_view<const float> view(index.data(), 2, 4);
  const std::vector<float> samples{0.8F, 0.6F, 1, 0, 0, 1};
  const matrix_view<const float> rows(samples.data(), 3, 2);
  // Cosines: (0.8, 0.96), (1, 0.6), (1, 0.8).
  const auto soft = match::cosine_softmax{0.1F}.weights(view, rows);
  const double first = 1 / (1 + std::exp(1.6)), second = 1 / (1 + std::exp(-4.0)),
               third = 1 / (1 + std::exp(-2.0));
  CHECK(soft[0] == Approx((first + second + third) / 3));
  CHECK(soft[0] + soft[1] == Approx(1));
  const auto one = match::top_k{0.1F, 1}.weights(view, rows);
  CHECK(one == std::vector<float>{1, 0});
  const auto votes = match::centroid{}.weights(view, rows);
  CHECK(votes[0] == Approx(2.0 / 3));
  CHECK(votes[1] == Approx(1.0 / 3));
}
