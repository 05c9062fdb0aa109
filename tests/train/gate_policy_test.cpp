// SPDX-License-Identifier: MIT
#include <crayon/train/gate_policy.hpp>

#include <vector>

#include "../catch.hpp"

using namespace crayon;

namespace {

/// The mean of the samples' products with each index vector: what is averaged is easy to see.
struct mean_product {
  static constexpr std::string_view name() noexcept { return "mean_product"; }

  [[nodiscard]] std::vector<float> weights(matrix_view<const float> index,
                                           matrix_view<const float> samples) const {
    std::vector<float> w(index.rows);
    for (std::size_t i = 0; i < index.rows; ++i) {
      for (std::size_t s = 0; s < samples.rows; ++s) {
        for (std::size_t j = 0; j < index.cols; ++j) {
          w[i] += index(i, j) * samples(s, j) / static_cast<float>(samples.rows);
        }
      }
    }
    return w;
  }
};
static_assert(matcher<mean_product>);
static_assert(train::gate_policy<train::leave_one_out, mean_product>);
static_assert(train::gate_policy<train::whole_group, mean_product>);
static_assert(train::gate_policy<train::per_sample, mean_product>);

const std::vector<float> index_rows{1, 0, 0, 1};
const std::vector<float> three_samples{1, 0, 0, 1, 1, 0};  // three samples

template <class Gates>
std::vector<float> weights_by(std::size_t count) {
  std::vector<float> w(2 * count);
  Gates{}(mean_product{}, matrix_view<const float>(index_rows.data(), 2, 2),
          matrix_view<const float>(three_samples.data(), count, 2),
          matrix_view<float>(w.data(), count, 2));
  return w;
}

}  // namespace

TEST_CASE("each gate policy averages over its samples", "[train]") {
  CHECK(weights_by<train::leave_one_out>(3) == std::vector<float>{0.5F, 0.5F, 1, 0, 0.5F, 0.5F});
  CHECK(weights_by<train::per_sample>(3) == std::vector<float>{1, 0, 0, 1, 1, 0});
  const auto whole = weights_by<train::whole_group>(3);
  for (std::size_t s = 0; s < 3; ++s) {
    CHECK(whole[2 * s] == Approx(2.0 / 3));
    CHECK(whole[2 * s + 1] == Approx(1.0 / 3));
  }
  CHECK(weights_by<train::leave_one_out>(1) == std::vector<float>{1, 0});
}
