// SPDX-License-Identifier: MIT
#include <crayon/train/joint_pool.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/initialise.hpp>
#include <crayon/train/pretrain.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

using namespace crayon;
using backend = simd::highway_dynamic;

namespace {

/// softmax of the mean cosine over tau.
struct softmax_match {
  static constexpr std::string_view name() noexcept { return "softmax"; }

  [[nodiscard]] std::vector<float> weights(matrix_view<const float> index,
                                           matrix_view<const float> samples) const {
    std::vector<float> w(index.rows);
    for (std::size_t i = 0; i < index.rows; ++i) {
      for (std::size_t s = 0; s < samples.rows; ++s) {
        w[i] += backend::dot(index.row(i), samples.row(s), index.cols) /
                (0.1F * static_cast<float>(samples.rows));
      }
    }
    backend::softmax(w.data(), w.size());
    return w;
  }
};

/// User u counts up or down; the tokens begin alike, only the embedding tells who asks.
void two_users(std::size_t step, train::grouped_batch& batch) {
  rng random(step);
  const auto vocab = static_cast<std::int32_t>(test::tiny_model.vocab);
  for (int group = 0; group < 4; ++group) {
    batch.begin_group();
    const bool up = group % 2 == 0;
    const std::array<float, 2> embedding{up ? 1.0F : 0.0F, up ? 0.0F : 1.0F};
    for (int i = 0; i < 4; ++i) {
      const auto start = static_cast<std::int32_t>(random.below(test::tiny_model.vocab));
      batch.add(std::vector{start, (start + (up ? 1 : vocab - 1)) % vocab}, 1, embedding);
    }
  }
}

const std::vector<float> joint_rows{1, 0, 0, 1};
const matrix_view<const float> pool_index(joint_rows.data(), 2, 2);
constexpr std::array sites{model::projection::q, model::projection::o, model::projection::gate,
                           model::projection::down};

train::training_options<> joint_options(std::size_t steps) {
  train::training_options<> o;
  o.steps = steps;
  o.schedule = {.peak = 2e-2F, .warm_up = 10};
  o.spread.shards = 2;
  return o;
}

}  // namespace

TEST_CASE("a pool learns conventions that contradict each other, one adapter cannot", "[train]") {
  rng random(1);
  const auto weights = train::initial_weights(test::tiny_model, random, 0.15F);
  thread_pool threads(2);
  const auto shapes = train::lora_shapes(test::tiny_model, 6, 6, sites);
  std::vector pool(2, train::initial_adapter(shapes, random));  // both start as the same adapter
  const auto done =
      train::joint_pool<backend>(weights, std::span(pool), pool_index, softmax_match{},
                                 train::leave_one_out{}, joint_options(200), two_users, threads);
  REQUIRE(done);
  CHECK(done->last_loss < 0.5);

  // What came back is what was trained: a new step of users, scored with the stored adapters.
  train::grouped_batch users;
  two_users(1000, users);
  std::vector<float> gates;
  REQUIRE(
      train::adapter_weights(users, pool_index, softmax_match{}, train::leave_one_out{}, gates));
  const auto factors = train::lora_factors::from(test::tiny_model, pool);
  REQUIRE(factors);
  train::batch_gradient<backend> trained(weights, &*factors, train::trainable::factors, {}, 1);
  const auto& asked = users.sequences();
  const auto sum = trained.loss(asked, {gates.data(), users.samples(), 2}, threads);
  CHECK(sum.loss / static_cast<double>(asked.loss_rows()) < 0.5);
  // Embeddings of the other user give the other convention.
  for (std::size_t i = 0; i < gates.size(); i += 2) std::swap(gates[i], gates[i + 1]);
  const auto swapped = trained.loss(asked, {gates.data(), users.samples(), 2}, threads);
  CHECK(swapped.loss / static_cast<double>(asked.loss_rows()) > 2);

  auto alone = train::initial_adapter(shapes, random);
  const auto control = train::train_adapter<backend>(
      weights, alone, joint_options(200),
      [](std::size_t step, train::packed_batch& batch) {
        train::grouped_batch grouped;
        two_users(step, grouped);
        batch = grouped.sequences();
      },
      threads);
  REQUIRE(control);
  CHECK(control->last_loss > 0.65);  // ln 2 is the best without knowing the user
}

TEST_CASE("joint training gives the same factors on any executor", "[train]") {
  const auto run = [](auto&& tasks) {
    rng random(1);
    const auto weights = train::initial_weights(test::tiny_model, random, 0.15F);
    std::vector pool(
        2, train::initial_adapter(train::lora_shapes(test::tiny_model, 2, 2, sites), random));
    REQUIRE(train::joint_pool<backend>(weights, std::span(pool), pool_index, softmax_match{},
                                       train::per_sample{}, joint_options(4), two_users, tasks));
    const auto b = pool[1].b(3);
    return std::vector<float>(b.data, b.data + b.size());
  };
  const auto serial = run(serial_executor{});
  CHECK(std::any_of(serial.begin(), serial.end(), [](float x) { return x != 0; }));
  CHECK(serial == run(thread_pool(3)));
}

TEST_CASE("embeddings and index vectors must fit", "[train]") {
  rng random(1);
  const auto weights = train::initial_weights(test::tiny_model, random);
  serial_executor serial;
  std::vector pool(
      3, train::initial_adapter(train::lora_shapes(test::tiny_model, 2, 2, sites), random));
  const auto unequal =
      train::joint_pool<backend>(weights, std::span(pool), pool_index, softmax_match{},
                                 train::leave_one_out{}, joint_options(1), two_users, serial);
  REQUIRE(!unequal);
  CHECK(unequal.error().text == "3 adapters and 2 index vectors");
  const std::vector<float> wide(3 * 5, 0.1F);
  const auto narrow = train::joint_pool<backend>(
      weights, std::span(pool), matrix_view<const float>(wide.data(), 3, 5), softmax_match{},
      train::leave_one_out{}, joint_options(1), two_users, serial);
  REQUIRE(!narrow);
  CHECK(narrow.error().text ==
        "training step 0 (batch of 0 sequences, 0 rows): 16 embeddings have 32 numbers, index "
        "vectors of width 5 need 80");
}
