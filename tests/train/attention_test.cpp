// SPDX-License-Identifier: MIT
#include <crayon/train/attention.hpp>

#include <cmath>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>

#include "oracle.hpp"

using namespace crayon;

namespace {

std::vector<float> random_values(std::size_t count, rng& random) {
  std::vector<float> values(count);
  for (auto& v : values) v = random.normal();
  return values;
}

/// Attention as its formula says, in double. `weight` collects sum(y * dy) for finite differences.
double weighted_output(const train::attention_shape& s, std::size_t n, const std::vector<float>& q,
                       const std::vector<float>& k, const std::vector<float>& v,
                       const std::vector<float>& dy, std::vector<float>* y = nullptr) {
  const std::size_t d = s.head_dim, qs = s.heads * d, ks = s.kv_heads * d;
  double sum = 0;
  for (std::size_t h = 0; h < s.heads; ++h) {
    const std::size_t g = h / (s.heads / s.kv_heads);
    for (std::size_t i = 0; i < n; ++i) {
      std::vector<double> p(i + 1);
      double total = 0;
      for (std::size_t j = 0; j <= i; ++j) {
        double score = 0;
        for (std::size_t c = 0; c < d; ++c) {
          score += double{q[i * qs + h * d + c]} * double{k[j * ks + g * d + c]};
        }
        total += p[j] = std::exp(score / std::sqrt(static_cast<double>(d)));
      }
      for (std::size_t c = 0; c < d; ++c) {
        double out = 0;
        for (std::size_t j = 0; j <= i; ++j) out += p[j] / total * double{v[j * ks + g * d + c]};
        if (y != nullptr) (*y)[i * qs + h * d + c] = static_cast<float>(out);
        sum += out * double{dy[i * qs + h * d + c]};
      }
    }
  }
  return sum;
}

}  // namespace

TEMPLATE_TEST_CASE("attention agrees with its formula and its gradient with finite differences",
                   "[train]", simd::scalar, simd::highway_dynamic) {
  const train::attention_shape shape{4, 2, 6};
  const std::size_t q_dim = 24, kv_dim = 12;
  for (const std::size_t n :
       {std::size_t{1}, std::size_t{5}, train::attention_block, 2 * train::attention_block + 3}) {
    INFO("length " << n);
    rng random(n);
    const auto q = random_values(n * q_dim, random), k = random_values(n * kv_dim, random),
               v = random_values(n * kv_dim, random), dy = random_values(n * q_dim, random);
    std::vector<float> p(shape.heads * n * n), y(n * q_dim), expected(n * q_dim),
        scratch(train::attention_block * n), dq(n * q_dim, 7.0F), dk(n * kv_dim, 7.0F),
        dv(n * kv_dim, 7.0F);
    const matrix_view<const float> qm(q.data(), n, q_dim), km(k.data(), n, kv_dim),
        vm(v.data(), n, kv_dim), dym(dy.data(), n, q_dim);
    train::attention_forward<TestType>(shape, qm, km, vm, p.data(),
                                       matrix_view<float>(y.data(), n, q_dim));
    weighted_output(shape, n, q, k, v, dy, &expected);
    CHECK(oracle::relative_difference(y, expected) < 1e-5);

    train::attention_backward<TestType>(shape, qm, km, vm, p.data(), dym,
                                        matrix_view<float>(dq.data(), n, q_dim),
                                        matrix_view<float>(dk.data(), n, kv_dim),
                                        matrix_view<float>(dv.data(), n, kv_dim), scratch.data());
    // Along a random direction: (f(x + h u) - f(x - h u)) / 2 h = gradient . u
    const auto along = [&](const std::vector<float>& x, const std::vector<float>& gradient,
                           auto&& f) {
      const auto u = random_values(x.size(), random);
      const float h = 1e-3F;
      auto up = x, down = x;
      double slope = 0, size = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        up[i] += h * u[i];
        down[i] -= h * u[i];
        slope += double{gradient[i]} * double{u[i]};
        size += double{gradient[i]} * double{gradient[i]};
      }
      CHECK((f(up) - f(down)) / (2 * double{h}) ==
            Approx(slope).margin(2e-3 * std::sqrt(size) + 1e-4));
    };
    along(q, dq, [&](const auto& x) { return weighted_output(shape, n, x, k, v, dy); });
    along(k, dk, [&](const auto& x) { return weighted_output(shape, n, q, x, v, dy); });
    along(v, dv, [&](const auto& x) { return weighted_output(shape, n, q, k, x, dy); });
  }
}
