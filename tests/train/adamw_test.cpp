// SPDX-License-Identifier: MIT
#include <crayon/train/adamw.hpp>

#include <array>
#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/train/gradient.hpp>

#include "oracle.hpp"

using namespace crayon;

TEST_CASE("three clipped AdamW steps agree with torch.optim.AdamW", "[train]") {
  const oracle::fixture torch;
  auto weights = torch.weights(true, "tied.weight.");
  const auto start = weights;
  const auto batch = torch.batch();
  train::batch_gradient<simd::scalar> gradient(weights, nullptr, train::trainable::weights, {}, 1);
  train::adamw optimizer({.beta1 = 0.8F, .beta2 = 0.9F, .epsilon = 1e-6F, .decay = 0.1F});
  serial_executor serial;
  const auto norms = torch.read("adamw.norms");
  for (const float norm : norms) {
    static_cast<void>(gradient.compute(batch, {}, serial));
    CHECK(gradient.norm() == Approx(norm).epsilon(1e-5));
    const std::array<train::parameter_group, 2> groups{
        train::parameter_group{weights.matrices(), gradient.matrices(), true},
        train::parameter_group{weights.norms(), gradient.norms(), false}};
    optimizer.step(groups, 0.01F, train::clip_scale(gradient.norm(), 0.5F), serial);
  }
  const auto expected = torch.weights(true, "adamw.weight.");
  // Compared as what three steps changed; a step is 0.01 whatever the gradient's size.
  const auto change = [](std::span<const float> to, std::span<const float> from) {
    std::vector<float> d(to.begin(), to.end());
    for (std::size_t i = 0; i < d.size(); ++i) d[i] -= from[i];
    return d;
  };
  CHECK(oracle::relative_difference(change(weights.matrices(), start.matrices()),
                                    change(expected.matrices(), start.matrices())) < 1e-3);
  CHECK(oracle::relative_difference(change(weights.norms(), start.norms()),
                                    change(expected.norms(), start.norms())) < 1e-3);
}

TEST_CASE("AdamW gives the same bytes on any executor, over parts and groups", "[train]") {
  const std::size_t count = 40000;  // several parts, the last one short
  std::vector<float> gradient(count);
  rng random(1);
  for (auto& g : gradient) g = random.normal();
  const auto run = [&](auto&& tasks) {
    std::vector<float> w(count, 1.0F);
    train::adamw optimizer;
    for (int step = 0; step < 3; ++step) {
      const std::array<train::parameter_group, 2> groups{
          train::parameter_group{std::span(w).subspan(0, 7), std::span(gradient).subspan(0, 7)},
          train::parameter_group{std::span(w).subspan(7), std::span(gradient).subspan(7)}};
      optimizer.step(groups, 0.1F, 1, tasks);
    }
    return w;
  };
  const auto serial = run(serial_executor{});
  CHECK(serial == run(thread_pool(3)));
  for (std::size_t i = 0; i < count; ++i) {
    if (gradient[i] == 0) continue;
    // With a constant gradient every step is the rate, but for epsilon.
    REQUIRE(serial[i] == Approx(gradient[i] > 0 ? 0.7F : 1.3F).margin(1e-3));
  }
}

TEST_CASE("clipping limits the norm and leaves small gradients alone", "[train]") {
  CHECK(train::clip_scale(0.5, 1) == 1);
  CHECK(train::clip_scale(4, 1) == Approx(0.25F));
  CHECK(train::clip_scale(1e9, 0) == 1);
  CHECK(train::clip_scale(0, 1) == 1);
}
