// SPDX-License-Identifier: MIT
#include <crayon/train/frozen_panels.hpp>

#include <array>
#include <cmath>
#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/train/gradient.hpp>
#include <crayon/train/initialise.hpp>

#include "oracle.hpp"

using namespace crayon;
using model::projection;

namespace {

/// Widths below, at and beyond one panel, none of them a multiple of it but one.
const model::llama_config panel_model{.dim = 48,
                                      .hidden = 101,
                                      .layers = 2,
                                      .heads = 4,
                                      .kv_heads = 2,
                                      .head_dim = 12,
                                      .vocab = 60,
                                      .context = 80};
constexpr std::array some_projections{projection::q, projection::v, projection::gate,
                                      projection::down};

std::vector<adapter::lora_adapter<float>> three_adapters(rng& random) {
  std::vector<adapter::lora_adapter<float>> made;
  for (int i = 0; i < 3; ++i) {
    made.push_back(
        train::initial_adapter(train::lora_shapes(panel_model, 2, 3, some_projections), random));
    for (std::size_t s = 0; s < made.back().size(); ++s) {
      const auto b = made.back().b(s);
      for (std::size_t j = 0; j < b.size(); ++j) b.data[j] = 0.3F * random.normal();
    }
  }
  return made;
}

/// W, or the sum that the adapters make of it, in double; (out, in).
std::vector<double> expected_matrix(const train::base_matrix& w, const train::lora_factors& factors,
                                    std::size_t site, const std::vector<float>& weights) {
  std::vector<double> sum(w.rows * w.cols);
  w.visit([&](auto matrix) {
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = double{to_float(matrix.data[i])};
  });
  const auto* s = factors.find(site);
  if (s == nullptr || weights.empty()) return sum;
  const auto values = factors.values();
  for (std::size_t c = 0; c < s->total; ++c) {
    for (std::size_t d = c % s->rank; d < s->total; d += s->rank) {
      const double weight = double{weights[c / s->rank]};
      const double gate = s->factor_wise ? weight * double{weights[d / s->rank]}
                          : c == d       ? weight
                                         : 0;
      for (std::size_t r = 0; r < s->out; ++r) {
        for (std::size_t j = 0; j < s->in; ++j) {
          sum[r * s->in + j] += double{s->scale} * gate * double{values[s->b + c * s->out + r]} *
                                double{values[s->a + d * s->in + j]};
        }
      }
    }
  }
  return sum;
}

}  // namespace

TEMPLATE_TEST_CASE("products through panels are those with the matrix, adapters in it or not",
                   "[train]", float, bf16, f16) {
  using B = simd::highway_dynamic;
  rng random(5);
  model::llama_weights<TestType> weights(panel_model);
  for (auto& w : weights.matrices()) w = from_float<TestType>(0.2F * random.normal());
  auto factors = *train::lora_factors::from(panel_model, three_adapters(random));
  const std::vector<float> w{0.5F, -0.25F, 2.0F};
  const train::base_weights base(weights);
  train::frozen_panels panels;
  thread_pool threads(2);
  const std::size_t rows = 19;
  // Merged, taken out again, and merged the other way.
  for (const int round : {0, 1, 2}) {
    CAPTURE(round);
    factors.blend_factor_wise(round == 2);
    panels.hold<B>(base, &factors, round == 1 ? nullptr : w.data(), threads);
    CHECK(panels.merged() == (round != 1));
    CHECK(panels.bytes() >= train::frozen_panels::bytes_of(panel_model));
    for (std::size_t site = 0; site < panel_model.sites(); ++site) {
      CAPTURE(model::llama_config::module(site));
      const auto matrix = base.linear(model::llama_config::layer_of(site),
                                      model::llama_config::projection_of(site));
      const auto sum =
          expected_matrix(matrix, factors, site, round == 1 ? std::vector<float>() : w);
      for (const bool forward : {true, false}) {
        const std::size_t in = forward ? matrix.cols : matrix.rows;
        const std::size_t out = forward ? matrix.rows : matrix.cols;
        std::vector<float> x(rows * in), y(rows * out, 0.5F);
        for (auto& value : x) value = random.normal();
        const matrix_view<const float> from(x.data(), rows, in);
        const matrix_view<float> to(y.data(), rows, out);
        if (forward) {
          panels.forward<B>(site, matrix, from, to, true);
        } else {
          panels.backward<B>(site, matrix, from, to, true);
        }
        double worst = 0;
        for (std::size_t t = 0; t < rows; ++t) {
          for (std::size_t j = 0; j < out; ++j) {
            double want = 0.5;
            for (std::size_t k = 0; k < in; ++k) {
              want += double{x[t * in + k]} *
                      (forward ? sum[j * matrix.cols + k] : sum[k * matrix.cols + j]);
            }
            worst = std::max(worst, std::fabs(double{to(t, j)} - want));
          }
        }
        CHECK(worst < 2e-5);
      }
    }
  }
}

TEMPLATE_TEST_CASE("merged adapters have the gradient of separate ones", "[train]", simd::scalar,
                   simd::highway_dynamic) {
  rng random(1);
  const auto weights = train::initial_weights(panel_model, random, 0.2F);
  auto factors = *train::lora_factors::from(panel_model, three_adapters(random));
  train::packed_batch batch;
  for (const std::size_t length : std::vector<std::size_t>{3, 70, 9, 2, 33, 1, 20, 20}) {
    std::vector<std::int32_t> tokens(length);
    for (auto& t : tokens) t = static_cast<std::int32_t>(random.below(panel_model.vocab));
    batch.add(tokens, length / 2);
  }
  std::vector<float> w;
  for (std::size_t s = 0; s < batch.sequences(); ++s) w.insert(w.end(), {0.5F, 0.3F, 0.2F});
  const matrix_view<const float> alike(w.data(), batch.sequences(), 3);
  const auto run = [&](train::sharding spread, auto&& tasks) {
    train::batch_gradient<TestType> gradient(weights, &factors, train::trainable::factors, spread,
                                             tasks.concurrency());
    gradient.want_gates();
    const auto sum = gradient.compute(batch, alike, tasks);
    std::vector<float> all(gradient.factors().begin(), gradient.factors().end());
    all.insert(all.end(), gradient.gates().begin(), gradient.gates().end());
    all.push_back(static_cast<float>(sum.loss));
    all.push_back(static_cast<float>(gradient.loss(batch, alike, tasks).loss));
    return all;
  };
  const train::sharding merged{.shards = 2, .rows = 40, .merge_rows = 1};
  auto again = merged, apart = merged, as_is = merged;
  again.recompute = true;
  apart.merge_rows = 1000;
  as_is.panels = 0;
  for (const bool factor_wise : {false, true}) {
    factors.blend_factor_wise(factor_wise);
    const auto one = run(merged, serial_executor{});
    CHECK(one == run(merged, thread_pool(2)));
    CHECK(one == run(again, serial_executor{}));
    const auto separate = run(as_is, serial_executor{});
    CHECK(oracle::relative_difference(one, separate) < 1e-5);
    CHECK(oracle::relative_difference(run(apart, serial_executor{}), separate) < 1e-5);
    CHECK(one != separate);
  }
}

TEST_CASE(
    "adapters are merged only where every sequence has the same weights, and in again when "
    "they change",
    "[train]") {
  using B = simd::highway_dynamic;
  rng random(1);
  const auto weights = train::initial_weights(panel_model, random, 0.2F);
  auto factors = *train::lora_factors::from(panel_model, three_adapters(random));
  train::packed_batch batch;
  const std::vector<std::int32_t> tokens{4, 8, 15, 16, 23, 42};
  for (int s = 0; s < 3; ++s) batch.add(tokens, 1);
  serial_executor serial;
  train::batch_gradient<B> merging(weights, &factors, train::trainable::factors, {.merge_rows = 1},
                                   1);
  train::batch_gradient<B> plain(weights, &factors, train::trainable::factors, {.panels = 0}, 1);
  const auto loss_of = [&](auto& gradient, const std::vector<float>& w) {
    return gradient.loss(batch, {w.data(), 3, 3}, serial).loss;
  };
  const std::vector<float> alike{1, 0, 0, 1, 0, 0, 1, 0, 0}, others{1, 0, 0, 0, 1, 0, 0, 0, 1};
  for (int round = 0; round < 2; ++round) {
    CHECK(loss_of(merging, alike) == Approx(loss_of(plain, alike)).epsilon(1e-6));
    CHECK(loss_of(merging, others) == Approx(loss_of(plain, others)).epsilon(1e-6));
    CHECK(loss_of(plain, alike) != Approx(loss_of(plain, others)).epsilon(1e-3));
    for (float& value : factors.values()) value *= 1.5F;
  }
}
