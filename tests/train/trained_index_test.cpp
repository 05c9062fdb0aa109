// SPDX-License-Identifier: MIT
// Gradients that reach the index vectors, and blends by factors in training.
#include <crayon/train/joint_pool.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include <crayon/blend/linear.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/initialise.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

using namespace crayon;

namespace {

using index_backend = simd::highway_dynamic;
constexpr std::size_t index_adapters = 3, index_width = 5;

struct index_setting {
  model::llama_weights<float> weights;
  std::vector<adapter::lora_adapter<float>> pool;
  std::vector<float> index;
  train::grouped_batch batch;

  [[nodiscard]] matrix_view<float> rows() { return {index.data(), index_adapters, index_width}; }
};

/// Adapters that do something, and groups of 3, 1 and 2 samples.
index_setting index_problem() {
  rng random(5);
  index_setting made{train::initial_weights(test::tiny_model, random, 0.15F), {}, {}, {}};
  constexpr std::array three_sites{model::projection::q, model::projection::o,
                                   model::projection::down};
  const auto shapes = train::lora_shapes(test::tiny_model, 2, 3, three_sites);
  for (std::size_t i = 0; i < index_adapters; ++i) {
    made.pool.push_back(train::initial_adapter(shapes, random));
    for (std::size_t s = 0; s < made.pool[i].size(); ++s) {
      const auto b = made.pool[i].b(s);
      for (std::size_t j = 0; j < b.size(); ++j) b.data[j] = 0.3F * random.normal();
    }
  }
  const auto unit = [&] {
    std::vector<float> v(index_width);
    for (auto& x : v) x = random.normal();
    match::normalise(v);
    return v;
  };
  for (std::size_t i = 0; i < index_adapters; ++i) {
    const auto p = unit();
    made.index.insert(made.index.end(), p.begin(), p.end());
  }
  for (const std::size_t samples : {3U, 1U, 2U}) {
    made.batch.begin_group();
    for (std::size_t s = 0; s < samples; ++s) {
      std::vector<std::int32_t> ids;
      for (int t = 0; t < 6; ++t) {
        ids.push_back(static_cast<std::int32_t>(random.below(test::tiny_model.vocab)));
      }
      made.batch.add(ids, 2, unit());
    }
  }
  return made;
}

}  // namespace

TEMPLATE_TEST_CASE("the gradient of the index vectors agrees with finite differences", "[train]",
                   train::leave_one_out, train::whole_group, train::per_sample) {
  auto made = index_problem();
  serial_executor serial;
  const match::cosine_softmax match{0.4F};
  const TestType gates{};
  for (const bool by_factors : {false, true}) {
    auto factors = *train::lora_factors::from(test::tiny_model, made.pool);
    factors.blend_factor_wise(by_factors);
    train::batch_gradient<index_backend> gradient(made.weights, &factors, train::trainable::factors,
                                                  {2, 12}, 1);
    gradient.want_gates();
    std::vector<float> w;
    const float balance = 0.5F;
    const auto weights_now = [&] {
      REQUIRE(train::adapter_weights(made.batch, made.rows(), match, gates, w));
      return matrix_view<const float>(w.data(), made.batch.samples(), index_adapters);
    };
    const auto loss = [&] {
      const auto now = weights_now();
      const auto& asked = made.batch.sequences();
      return gradient.loss(asked, now, serial).loss / static_cast<double>(asked.loss_rows()) +
             double{balance} * train::imbalance(train::mean_weights(now));
    };
    std::vector<float> d(made.index.size());
    const auto now = weights_now();
    (void)gradient.compute(made.batch.sequences(), now, serial);
    train::index_backward(made.batch, made.rows(), match, gates, now, gradient.gates(), balance,
                          matrix_view<float>(d.data(), index_adapters, index_width));
    double difference = 0, size = 0;
    for (std::size_t k = 0; k < d.size(); ++k) {
      const float step = 4e-3F, at = made.index[k];
      made.index[k] = at + step;
      const double up = loss();
      made.index[k] = at - step;
      const double down = loss();
      made.index[k] = at;
      const double expected = (up - down) / (2 * double{step});
      difference += (expected - double{d[k]}) * (expected - double{d[k]});
      size += expected * expected;
    }
    INFO(TestType::name() << (by_factors ? ", linear" : ", concat"));
    CHECK(size > 1e-4);
    CHECK(std::sqrt(difference / size) < 1e-3);
  }
}

TEST_CASE("the parameters behind index vectors: unit rows, a gradient along the sphere",
          "[train]") {
  rng random(3);
  std::vector<float> rows(6), d(6);
  for (auto& x : d) x = random.normal();
  for (auto& x : rows) x = random.normal();
  match::normalise(std::span(rows).first(3));
  match::normalise(std::span(rows).last(3));
  const matrix_view<float> index(rows.data(), 2, 3);
  train::detail::index_parameters parameters({index, 0.5F, 0});
  const auto group = parameters.group();
  CHECK(std::hypot(group.values[0], group.values[1], group.values[2]) == Approx(2));
  REQUIRE(parameters.gradient(index, matrix_view<const float>(d.data(), 2, 3)));
  // Of the linear function sum d . p(q).
  for (std::size_t k = 0; k < 6; ++k) {
    const auto value = [&](float by) {
      const float at = group.values[k];
      group.values[k] = at + by;
      std::vector<float> p(6);
      parameters.store(matrix_view<float>(p.data(), 2, 3));
      group.values[k] = at;
      double sum = 0;
      for (std::size_t j = 0; j < 6; ++j) sum += double{p[j]} * double{d[j]};
      return sum;
    };
    CHECK(double{group.gradient[k]} == Approx((value(1e-3F) - value(-1e-3F)) / 2e-3).margin(1e-3));
  }
  d[4] = NAN;
  CHECK(!parameters.gradient(index, matrix_view<const float>(d.data(), 2, 3)));
}

TEST_CASE("training by factors sees what the linear blend gives", "[train]") {
  auto made = index_problem();
  serial_executor serial;
  auto factors = *train::lora_factors::from(test::tiny_model, made.pool);
  factors.blend_factor_wise(true);
  const std::vector<float> w{0.5F, 0.2F, 0.3F};
  train::packed_batch batch;
  batch.add(std::vector<std::int32_t>{1, 2, 3, 4}, 1);
  train::batch_gradient<index_backend> trained(made.weights, &factors, train::trainable::factors,
                                               {}, 1);
  const auto pool = adapter::pool<float>::build(made.pool, {}, {});
  REQUIRE(pool);
  const std::vector blended{*blend::linear<>::blend(*pool, blend::slots_of(w))};
  const auto one = *train::lora_factors::from(test::tiny_model, blended);
  train::batch_gradient<index_backend> deployed(made.weights, &one, train::trainable::factors, {},
                                                1);
  const float whole = 1;
  const double expected = deployed.loss(batch, {&whole, 1, 1}, serial).loss;
  CHECK(trained.loss(batch, {w.data(), 1, 3}, serial).loss == Approx(expected).epsilon(1e-5));
  factors.blend_factor_wise(false);
  CHECK(trained.loss(batch, {w.data(), 1, 3}, serial).loss != Approx(expected).epsilon(1e-3));

  // And its gradient, against finite differences.
  factors.blend_factor_wise(true);
  (void)trained.compute(batch, {w.data(), 1, 3}, serial);
  for (const std::size_t k : {std::size_t{3}, factors.sites()[1].b + 2, factors.sites()[2].a + 5}) {
    const float at = factors.values()[k], step = 1e-2F;
    factors.values()[k] = at + step;
    const double up = trained.loss(batch, {w.data(), 1, 3}, serial).loss / 3;
    factors.values()[k] = at - step;
    const double down = trained.loss(batch, {w.data(), 1, 3}, serial).loss / 3;
    factors.values()[k] = at;
    CHECK(double{trained.factors()[k]} == Approx((up - down) / (2 * double{step})).margin(2e-4));
  }
}

TEST_CASE("index vectors that are trained find the users", "[train]") {
  // Two users with contradicting habits; both index vectors begin near the same place.
  rng random(1);
  const auto weights = train::initial_weights(test::tiny_model, random, 0.15F);
  constexpr std::array four_sites{model::projection::q, model::projection::o,
                                  model::projection::gate, model::projection::down};
  const auto shapes = train::lora_shapes(test::tiny_model, 4, 4, four_sites);
  const auto next = [](std::size_t step, train::grouped_batch& batch) {
    rng draws(step);
    const auto vocab = static_cast<std::int32_t>(test::tiny_model.vocab);
    for (int group = 0; group < 4; ++group) {
      batch.begin_group();
      const bool up = group % 2 == 0;
      const std::array<float, 2> embedding{up ? 1.0F : 0.0F, up ? 0.0F : 1.0F};
      for (int i = 0; i < 4; ++i) {
        const auto start = static_cast<std::int32_t>(draws.below(test::tiny_model.vocab));
        batch.add(std::vector{start, (start + (up ? 1 : vocab - 1)) % vocab}, 1, embedding);
      }
    }
  };
  train::training_options<> options;
  options.steps = 60;
  options.schedule = {.peak = 2e-2F, .warm_up = 10};
  options.spread.shards = 2;
  const match::cosine_softmax match{0.5F};
  serial_executor serial;
  const auto run = [&](bool move, float balance) {
    std::vector<float> rows{0.8F, 0.6F, 0.6F, 0.8F};
    rng same(7);
    std::vector pool(2, train::initial_adapter(shapes, same));
    const auto done =
        move ? train::joint_pool<index_backend>(
                   weights, std::span(pool),
                   train::trained_index{matrix_view<float>(rows.data(), 2, 2), 1, balance}, match,
                   train::leave_one_out{}, options, next, serial)
             : train::joint_pool<index_backend>(weights, std::span(pool),
                                                matrix_view<const float>(rows.data(), 2, 2), match,
                                                train::leave_one_out{}, options, next, serial);
    REQUIRE(done);
    return std::pair(done->last_loss, rows);
  };
  const auto fixed = run(false, 0);
  const auto moved = run(true, 0.1F);
  CHECK(fixed.second == std::vector<float>{0.8F, 0.6F, 0.6F, 0.8F});
  CHECK(moved.second != fixed.second);
  CHECK(std::hypot(moved.second[0], moved.second[1]) == Approx(1));
  CHECK(std::abs(moved.second[0] - moved.second[2]) > 0.3);  // 0.2 apart at first
  CHECK(moved.first < fixed.first);
}

TEST_CASE("the balance term undoes a collapse", "[train]") {
  std::vector<float> rows{1, 0, 0.6F, 0.8F};  // all samples lie at the first
  const std::vector<float> samples{0.98F, 0.19899749F, 0.95F, 0.31224990F};
  const match::cosine_softmax match{0.1F};
  const matrix_view<const float> f(samples.data(), 2, 2);
  const auto before = train::usage_of(match, matrix_view<const float>(rows.data(), 2, 2), f);
  CHECK(before.nearest == std::vector<std::size_t>{2, 0});
  CHECK(before.imbalance > 0.2);
  CHECK(before.mean[0] + before.mean[1] == Approx(1));
  for (int step = 0; step < 200; ++step) {
    const matrix_view<const float> index(rows.data(), 2, 2);
    std::vector<float> w, dw(4), d(4);
    for (std::size_t s = 0; s < 2; ++s) {
      const auto one = match.weights(index, f.rows_from(s, 1));
      w.insert(w.end(), one.begin(), one.end());
    }
    train::imbalance_backward({w.data(), 2, 2}, 1, matrix_view<float>(dw.data(), 2, 2));
    for (std::size_t s = 0; s < 2; ++s) {
      match.backward(index, f.rows_from(s, 1), std::span(dw).subspan(2 * s, 2),
                     matrix_view<float>(d.data(), 2, 2));
    }
    for (std::size_t k = 0; k < 4; ++k) rows[k] -= 0.01F * d[k];
    match::normalise(std::span(rows).first(2));
    match::normalise(std::span(rows).last(2));
  }
  const auto after = train::usage_of(match, matrix_view<const float>(rows.data(), 2, 2), f);
  CHECK(after.imbalance < 0.05);
}
