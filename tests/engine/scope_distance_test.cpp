// SPDX-License-Identifier: MIT
#include <crayon/engine/scope_distance.hpp>
#include <crayon/engine/mahalanobis_distance.hpp>

#include <cmath>
#include <vector>

#include "../catch.hpp"

namespace {

using crayon::matrix_view;

/// Weights over three adapters: the mean of the rows' first three elements.
std::vector<float> mean_weights(matrix_view<const float> rows) {
  std::vector<float> w(3);
  for (std::size_t r = 0; r < rows.rows; ++r) {
    for (std::size_t k = 0; k < 3; ++k) w[k] += rows(r, k) / static_cast<float>(rows.rows);
  }
  return w;
}

const std::vector<float> task_rows{0.8F, 0.1F, 0.1F,  //
                                   0.4F, 0.5F, 0.1F};
const matrix_view<const float> task(task_rows.data(), 2, 3);

}  // namespace

TEST_CASE("weight_distance: cross-entropy of the query's weights against the task's", "[engine]") {
  crayon::engine::weight_distance distance;
  distance.fit(task, mean_weights);  // 0.6 0.3 0.1
  const std::vector<float> near{1, 0, 0}, far{0, 0, 1}, mixed{0.5F, 0.5F, 0};
  CHECK(distance.measure(near, mean_weights) == Approx(-std::log(0.6)));
  CHECK(distance.measure(far, mean_weights) == Approx(-std::log(0.1)));
  CHECK(distance.measure(mixed, mean_weights) ==
        Approx(-0.5 * std::log(0.6) - 0.5 * std::log(0.3)));
  distance.fit(task.rows_from(1, 1), mean_weights);  // the last fit counts
  CHECK(distance.measure(near, mean_weights) == Approx(-std::log(0.4)));
}

TEST_CASE("sample_distance: one minus the cosine to the nearest sample", "[engine]") {
  const std::vector<float> rows{1, 0, 0, 0.6F, 0.8F, 0};
  crayon::engine::sample_distance distance;
  const std::vector<float> query{0, 1, 0}, first{1, 0, 0};
  CHECK(std::isnan(distance.measure(query, mean_weights)));  // nothing was fitted
  distance.fit({rows.data(), 2, 3}, mean_weights);
  CHECK(distance.measure(query, mean_weights) == Approx(0.2));
  CHECK(distance.measure(first, mean_weights) == Approx(0).margin(1e-6));
  distance.fit({rows.data(), 1, 3}, mean_weights);
  CHECK(distance.measure(query, mean_weights) == Approx(1));
}

TEST_CASE("kth_sample_distance: one near sample is not enough", "[engine]") {
  const std::vector<float> rows{1, 0, 0, 0.6F, 0.8F, 0}, first{1, 0, 0};
  crayon::engine::kth_sample_distance<2> distance;
  distance.fit({rows.data(), 2, 3}, mean_weights);
  CHECK(distance.measure(first, mean_weights) == Approx(0.4));
  distance.fit({rows.data(), 1, 3}, mean_weights);
  CHECK(std::isnan(distance.measure(first, mean_weights)));
}

TEST_CASE("mahalanobis_distance: along the samples' spread less than across it", "[engine]") {
  const std::vector<float> rows{-2, 0.1F, 0, -1, -0.1F, 0.1F, 1, 0, -0.1F, 2, 0, 0};
  crayon::engine::mahalanobis_distance distance;
  const std::vector<float> along{1.5F, 0, 0}, across{0, 1.5F, 0}, middle{0, 0, 0};
  CHECK(std::isnan(distance.measure(along, mean_weights)));  // nothing was fitted
  distance.fit({rows.data(), 4, 3}, mean_weights);
  CHECK(distance.measure(middle, mean_weights) == Approx(0).margin(1e-4));
  CHECK(distance.measure(along, mean_weights) < distance.measure(across, mean_weights));
  distance.fit({rows.data(), 1, 3}, mean_weights);
  CHECK(std::isnan(distance.measure(along, mean_weights)));
}

TEST_CASE("no_distance asks for nothing and measures nothing", "[engine]") {
  crayon::engine::no_distance distance;
  static_assert(!crayon::engine::no_distance::needs_embedding);
  distance.fit(task, mean_weights);
  CHECK(std::isnan(distance.measure({}, mean_weights)));
}
