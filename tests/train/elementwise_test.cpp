// SPDX-License-Identifier: MIT
#include <crayon/train/elementwise.hpp>

#include <array>
#include <cmath>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>

#include "oracle.hpp"

using namespace crayon;

TEMPLATE_TEST_CASE("the gradient of silu(gate) * up, at zero and where the exponential saturates",
                   "[train]", simd::scalar, simd::highway_dynamic) {
  const std::vector<float> gate{0.0F, -0.0F, 1e-30F, -1e-30F, 0.5F, -0.5F, 4, -4, 20, -20, 95, -95};
  const std::size_t n = gate.size();
  std::vector<float> up(n, 1.5F), dy(n, -2.0F), d_gate(n), d_up(n);
  train::silu_mul_backward<TestType>({gate.data(), 1, n}, {up.data(), 1, n}, {dy.data(), 1, n},
                                     matrix_view<float>(d_gate.data(), 1, n),
                                     matrix_view<float>(d_up.data(), 1, n));
  for (std::size_t j = 0; j < n; ++j) {
    INFO("gate " << gate[j]);
    const double g = double{gate[j]}, s = 1 / (1 + std::exp(-g));
    CHECK(d_gate[j] == Approx(-3 * s * (1 + g * (1 - s))).epsilon(1e-5).margin(1e-6));
    CHECK(d_up[j] == Approx(-2 * g * s).epsilon(1e-5).margin(1e-6));
  }
}

TEMPLATE_TEST_CASE("rms_norm_backward adds the gradient to what is there", "[train]", simd::scalar,
                   simd::highway_dynamic) {
  const std::size_t rows = 2, n = 19;
  rng random(3);
  std::vector<float> x(rows * n), weight(n), dy(rows * n), dx(rows * n, 1.0F), dw(n, 2.0F),
      scratch(n);
  for (auto* v : {&x, &weight, &dy}) {
    for (auto& value : *v) value = random.normal();
  }
  const float epsilon = 0.1F;  // large enough to be seen in the gradient
  train::rms_norm_backward<TestType>({x.data(), rows, n}, weight.data(), epsilon,
                                     {dy.data(), rows, n}, matrix_view<float>(dx.data(), rows, n),
                                     dw.data(), scratch.data());
  const auto f = [&](const std::vector<float>& in, const std::vector<float>& w) {
    double sum = 0;
    for (std::size_t t = 0; t < rows; ++t) {
      double squares = 0;
      for (std::size_t j = 0; j < n; ++j) squares += double{in[t * n + j]} * double{in[t * n + j]};
      const double r = 1 / std::sqrt(squares / n + double{epsilon});
      for (std::size_t j = 0; j < n; ++j) {
        sum += double{in[t * n + j]} * r * double{w[j]} * double{dy[t * n + j]};
      }
    }
    return sum;
  };
  const float h = 1e-2F;
  for (std::size_t i = 0; i < x.size(); ++i) {
    auto high = x, low = x;
    high[i] += h;
    low[i] -= h;
    CHECK((f(high, weight) - f(low, weight)) / (double{high[i]} - double{low[i]}) ==
          Approx(dx[i] - 1).margin(2e-3));
  }
  for (std::size_t j = 0; j < n; ++j) {
    auto high = weight, low = weight;
    high[j] += h;
    low[j] -= h;
    CHECK((f(x, high) - f(x, low)) / (double{high[j]} - double{low[j]}) ==
          Approx(dw[j] - 2).margin(2e-3));
  }
}

TEST_CASE("rope_backward undoes rope_forward", "[train]") {
  const model::rope_table table(6, 9, 100.0F);
  rng random(4);
  std::vector<float> x(9 * 12);
  for (auto& v : x) v = random.normal();
  auto y = x;
  const matrix_view<float> rows(y.data(), 9, 12);
  train::rope_forward(table, rows);
  CHECK(oracle::relative_difference(y, x) > 0.1);
  train::rope_backward(table, rows);
  CHECK(oracle::relative_difference(y, x) < 1e-6);
}

TEST_CASE("a token that occurs twice gets both gradients", "[train]") {
  const std::array<std::int32_t, 3> ids{2, 0, 2};
  const std::vector<float> dy{1, 2, 3, 4, 5, 6};
  std::vector<float> table(6, 10.0F);
  train::embedding_backward({dy.data(), 3, 2}, ids, matrix_view<float>(table.data(), 3, 2));
  CHECK(table == std::vector<float>{13, 14, 10, 10, 16, 18});
}
