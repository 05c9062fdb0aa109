// SPDX-License-Identifier: MIT
#include <crayon/train/llama_backward.hpp>

#include <string>
#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/train/gradient.hpp>

#include "oracle.hpp"

using namespace crayon;

TEMPLATE_TEST_CASE("gradients of all weights agree with PyTorch", "[train]", simd::scalar,
                   simd::highway_dynamic) {
  const oracle::fixture torch;
  for (const bool tied : {true, false}) {
    const std::string kind = tied ? "tied" : "untied";
    const auto weights = torch.weights(tied, kind + ".weight.");
    const auto expected = torch.weights(tied, kind + ".gradient.");
    const auto batch = torch.batch();
    serial_executor serial;
    // One pass over everything, one sequence per pass, and more shards than sequences.
    for (const train::sharding spread :
         {train::sharding{1, 1000}, train::sharding{1, 1}, train::sharding{6, 1000}}) {
      train::batch_gradient<TestType> gradient(weights, nullptr, train::trainable::weights, spread,
                                               1);
      const auto sum = gradient.compute(batch, {}, serial);
      CHECK(sum.loss / static_cast<double>(batch.loss_rows()) ==
            Approx(torch.number(kind + ".loss")).epsilon(1e-5));
      for (const auto& s : weights.shapes()) {
        INFO(kind << " " << s.name << ", shards " << spread.shards << ", rows " << spread.rows);
        const auto got = (s.norm ? gradient.norms() : gradient.matrices());
        const std::span<const float> want = s.norm ? expected.norms() : expected.matrices();
        CHECK(oracle::relative_difference(got.subspan(s.offset, s.rows * s.cols),
                                          want.subspan(s.offset, s.rows * s.cols)) <
              oracle::tolerance);
      }
      CHECK(gradient.loss(batch, {}, serial).loss == Approx(sum.loss).epsilon(1e-6));
    }
  }
}

TEST_CASE("a pass without scored rows and an empty batch give nothing", "[train]") {
  const oracle::fixture torch;
  const auto weights = torch.weights(true, "tied.weight.");
  serial_executor serial;
  train::batch_gradient<simd::scalar> gradient(weights, nullptr, train::trainable::weights, {}, 1);
  train::packed_batch batch;
  CHECK(gradient.compute(batch, {}, serial).loss == 0);
  CHECK(gradient.norm() == 0);
  batch.add(std::vector<std::int32_t>{1, 2, 3}, 3);
  CHECK(gradient.compute(batch, {}, serial).loss == 0);
  CHECK(gradient.norm() == 0);
}
