// SPDX-License-Identifier: MIT
#include <crayon/train/dropout.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/gradient.hpp>

#include "oracle.hpp"

using namespace crayon;

TEST_CASE("dropout leaves the expectation as it is, and differs by site, row and step", "[train]") {
  const train::adapter_dropout mask{0.25F, 7};
  const std::vector<float> x(4000, 2.0F);
  std::vector<float> sum(x.size(), 1.0F), y(x.size()), other(x.size());
  mask.apply<false>(3, 5, x.data(), y.data(), x.size());
  double mean = 0;
  for (const float v : y) {
    REQUIRE((v == 0 || v == Approx(2 / 0.75)));
    mean += double{v} / static_cast<double>(y.size());
  }
  CHECK(mean == Approx(2).epsilon(0.05));  // three deviations of the mean are 0.055
  mask.apply<true>(3, 5, x.data(), sum.data(), x.size());
  for (std::size_t j = 0; j < y.size(); ++j) REQUIRE(sum[j] == y[j] + 1);
  const auto equal_to_y = [&](const train::adapter_dropout& m, std::size_t site, std::size_t row) {
    m.apply<false>(site, row, x.data(), other.data(), x.size());
    return other == y;
  };
  CHECK(equal_to_y(mask, 3, 5));
  CHECK(!equal_to_y(mask, 4, 5));
  CHECK(!equal_to_y(mask, 3, 6));
  CHECK(!equal_to_y(mask.at_step(0), 3, 5));
  CHECK(mask.at_step(0).seed != mask.at_step(1).seed);
  CHECK(!train::adapter_dropout{}.at_step(1).on());
}

TEST_CASE("gradients with dropout agree with PEFT under the same mask", "[train]") {
  const oracle::fixture torch;
  const oracle::fixture expected("frozen.safetensors");
  const auto weights = torch.weights(true, "tied.weight.");
  auto factors =
      train::lora_factors::from(weights.config(), std::vector{torch.adapter("adapter.0.")});
  REQUIRE(factors);
  const auto batch = torch.batch();
  const std::vector<float> ones(batch.sequences(), 1.0F);
  const matrix_view<const float> one(ones.data(), ones.size(), 1);
  const auto want = expected.flat({expected.adapter("dropout.")});
  serial_executor serial;
  // Whatever the shards, the rows of a pass, and what is computed again.
  for (const train::sharding spread :
       {train::sharding{1, 1000, false}, train::sharding{3, 1, false},
        train::sharding{2, 12, true}}) {
    train::batch_gradient<simd::highway_dynamic> gradient(weights, &*factors,
                                                          train::trainable::factors, spread, 1);
    const double without = gradient.loss(batch, one, serial).loss;
    gradient.drop({0.3F, 1234});
    const auto sum = gradient.compute(batch, one, serial);
    CHECK(sum.loss / static_cast<double>(batch.loss_rows()) ==
          Approx(expected.number("dropout.loss")).epsilon(1e-5));
    CHECK(oracle::relative_difference(gradient.factors(), want) < oracle::tolerance);
    CHECK(gradient.loss(batch, one, serial).loss == without);
    CHECK(std::fabs(sum.loss - without) > 1e-3);
  }
}
