// SPDX-License-Identifier: MIT
// Clusters of real texts beside scikit-learn's (fixtures/make_k_means.py).
#include <crayon/train/k_means.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include <crayon/io/safetensors.hpp>
#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"

using namespace crayon;

namespace {

/// Sum of squared distances to the mean of the cluster: what scikit-learn minimises. `k_means` has
/// centres of unit length and minimises 1 - cos, which is not quite the same.
double inertia(matrix_view<const float> points, const train::clustering& made) {
  const std::size_t k = made.sizes.size(), d = points.cols;
  std::vector<double> mean(k * d);
  for (std::size_t i = 0; i < points.rows; ++i) {
    const std::size_t c = made.assignment[i];
    for (std::size_t j = 0; j < d; ++j) {
      mean[c * d + j] += double{points(i, j)} / static_cast<double>(made.sizes[c]);
    }
  }
  double sum = 0;
  for (std::size_t i = 0; i < points.rows; ++i) {
    for (std::size_t j = 0; j < d; ++j) {
      const double off = double{points(i, j)} - mean[made.assignment[i] * d + j];
      sum += off * off;
    }
  }
  return sum;
}

}  // namespace

TEST_CASE("the objective on embedded texts is scikit-learn's to 1 %") {
  const auto file = io::safetensors::open(CRAYON_FIXTURES "/k_means.safetensors");
  REQUIRE(file);
  const auto& shape = file->find("points")->shape;
  std::vector<float> memory(shape[0] * shape[1]);
  const matrix_view<float> points(memory.data(), shape[0], shape[1]);
  REQUIRE(io::read_matrix(*file, "points", points));
  for (std::size_t i = 0; i < points.rows; ++i) {  // F16 keeps the length to 1e-3
    const double length = std::sqrt(double{simd::scalar::sum_squares(points.row(i), points.cols)});
    for (std::size_t j = 0; j < points.cols; ++j) {
      points(i, j) = static_cast<float>(double{points(i, j)} / length);
    }
  }
  const auto* stored = file->find("inertia");
  std::vector<double> expected(stored->shape[0] * stored->shape[1]);
  std::memcpy(expected.data(), stored->bytes.data(), stored->bytes.size());
  const std::size_t runs = stored->shape[1];
  const std::size_t clusters[]{5, 10, 20};
  REQUIRE(stored->shape[0] == 3);
  for (std::size_t row = 0; row < 3; ++row) {
    std::vector<double> own;
    for (std::size_t seed = 0; seed < runs; ++seed) {
      rng random(seed);
      const auto made = train::k_means<simd::scalar>(points, clusters[row], random, 300);
      REQUIRE(made);
      CHECK(*std::min_element(made->sizes.begin(), made->sizes.end()) > 0);
      own.push_back(inertia(points, *made));
    }
    const std::vector<double> theirs(
        expected.begin() + static_cast<std::ptrdiff_t>(row * runs),
        expected.begin() + static_cast<std::ptrdiff_t>((row + 1) * runs));
    const double mean = std::accumulate(own.begin(), own.end(), 0.0) / static_cast<double>(runs);
    const double their_mean =
        std::accumulate(theirs.begin(), theirs.end(), 0.0) / static_cast<double>(runs);
    INFO(clusters[row] << " clusters: mean " << mean << ", scikit-learn " << their_mean);
    CHECK(mean < 1.01 * their_mean);
    CHECK(*std::min_element(own.begin(), own.end()) <
          1.01 * *std::min_element(theirs.begin(), theirs.end()));
  }
}
