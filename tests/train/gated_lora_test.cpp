// SPDX-License-Identifier: MIT
#include <crayon/train/gated_lora.hpp>

#include <string>
#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/train/gradient.hpp>

#include "oracle.hpp"

using namespace crayon;

TEMPLATE_TEST_CASE("gradients of one adapter agree with PEFT", "[train]", simd::scalar,
                   simd::highway_dynamic) {
  const oracle::fixture torch;
  const auto weights = torch.weights(true, "tied.weight.");
  const std::vector one{torch.adapter("adapter.0.")};
  auto factors = train::lora_factors::from(weights.config(), one);
  REQUIRE(factors);
  train::batch_gradient<TestType> gradient(weights, &*factors, train::trainable::factors, {1, 12},
                                           1);
  const auto batch = torch.batch();
  const std::vector<float> ones(batch.sequences(), 1.0F);
  serial_executor serial;
  const auto sum = gradient.compute(batch, {ones.data(), ones.size(), 1}, serial);
  CHECK(sum.loss / static_cast<double>(batch.loss_rows()) ==
        Approx(torch.number("peft.loss")).epsilon(1e-5));
  const auto expected = torch.flat({torch.adapter("peft.gradient.")});
  for (const auto& s : factors->sites()) {
    INFO(model::llama_config::module(s.model_site));
    const auto part = [&](std::span<const float> all, std::size_t offset, std::size_t width) {
      return all.subspan(offset, s.total * width);
    };
    CHECK(oracle::relative_difference(part(gradient.factors(), s.a, s.in),
                                      part(expected, s.a, s.in)) < oracle::tolerance);
    CHECK(oracle::relative_difference(part(gradient.factors(), s.b, s.out),
                                      part(expected, s.b, s.out)) < oracle::tolerance);
  }
  CHECK(gradient.matrices().empty());
}

TEMPLATE_TEST_CASE("gradients of adapters with weights for each sequence agree with PyTorch",
                   "[train]", simd::scalar, simd::highway_dynamic) {
  const oracle::fixture torch;
  const auto weights = torch.weights(true, "tied.weight.");
  std::vector<adapter::lora_adapter<float>> pool, expected_pool;
  for (std::size_t i = 0; i < oracle::adapters; ++i) {
    pool.push_back(torch.adapter("adapter." + std::to_string(i) + "."));
    expected_pool.push_back(torch.adapter("joint.gradient." + std::to_string(i) + "."));
  }
  auto factors = train::lora_factors::from(weights.config(), pool);
  REQUIRE(factors);
  const auto batch = torch.batch();
  const auto w = torch.read("joint.weights");
  const auto expected = torch.flat(expected_pool);
  serial_executor serial;
  for (const train::sharding spread : {train::sharding{1, 1000}, train::sharding{2, 1}}) {
    train::batch_gradient<TestType> gradient(weights, &*factors, train::trainable::factors, spread,
                                             1);
    const auto sum =
        gradient.compute(batch, {w.data(), oracle::sequences, oracle::adapters}, serial);
    CHECK(sum.loss / static_cast<double>(batch.loss_rows()) ==
          Approx(torch.number("joint.loss")).epsilon(1e-5));
    CHECK(oracle::relative_difference(gradient.factors(), expected) < oracle::tolerance);
  }
}
