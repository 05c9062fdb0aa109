// SPDX-License-Identifier: MIT
#include <crayon/blend/recompress.hpp>

#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include <Eigen/SVD>

#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

/// Singular values of a dense (rows, cols) matrix, largest first.
std::vector<double> dense_sigma(const std::vector<double>& m, std::size_t rows, std::size_t cols) {
  using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::MatrixXd dense = Eigen::Map<const row_major>(
      m.data(), static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(cols));
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(dense);
  const auto& s = svd.singularValues();
  return {s.data(), s.data() + s.size()};
}

double tail(const std::vector<double>& sigma, std::size_t from) {
  double sum = 0;
  for (std::size_t k = sigma.size(); k-- > from;) sum += sigma[k] * sigma[k];
  return std::sqrt(sum);
}

/// Column k of B and row k of A are of one length, and orthogonal to the others.
template <element E>
void check_gauge(factors_view<E> f, double largest, double epsilon) {
  for (std::size_t i = 0; i < f.rank(); ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double a = 0, b = 0;
      for (std::size_t c = 0; c < f.a.cols; ++c) {
        a += double{to_float(f.a(i, c))} * double{to_float(f.a(j, c))};
      }
      for (std::size_t r = 0; r < f.b.rows; ++r) {
        b += double{to_float(f.b(r, i))} * double{to_float(f.b(r, j))};
      }
      if (i == j) {
        CHECK(std::abs(a - b) <= epsilon * largest);
      } else {
        CHECK(std::abs(a) <= epsilon * largest);
        CHECK(std::abs(b) <= epsilon * largest);
      }
    }
  }
}

/// The blend is as near to the exact sum as any matrix of its rank, to the rounding of E.
template <element E>
void check_best(const lora_adapter<E>& blended, const std::vector<lora_adapter<E>>& adapters,
                const std::vector<weighted_slot>& weights) {
  for (std::size_t i = 0; i < blended.size(); ++i) {
    const auto& shape = blended.shape(i);
    auto exact = exact_sum(adapters, weights, shape.module);
    exact.resize(shape.out * shape.in);
    const auto sigma = dense_sigma(exact, shape.out, shape.in);
    const double bound = 2 * tolerance(adapters, weights, shape.module) + 1e-6 * sigma[0];
    const double off = distance(delta_at(blended, i), exact);
    INFO("site " << shape.out << " x " << shape.in << " rank " << shape.rank);
    CHECK(off <= tail(sigma, shape.rank) + bound);
    CHECK(off >= tail(sigma, shape.rank) - bound);  // else the oracle is wrong
    CHECK(shape.scale == 1);
    check_gauge(blended.factors(i), sigma[0], 8 * double{unit_roundoff<E>} + 1e-5);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("recompress is the truncated SVD of the exact sum, in every backend",
                   "[recompress]", simd::scalar, simd::highway_static, simd::highway_dynamic) {
  rng random(61);
  const auto run = [&](auto zero) {
    using E = decltype(zero);
    for (int repeat = 0; repeat < 8; ++repeat) {
      const std::size_t count = 1 + random.below(6);
      const random_pool<E> p(random, count);
      const auto weights = random_weights(random, count);
      for (const std::size_t rank : std::vector<std::size_t>{0, 1, 3, 12, 100}) {
        const auto blended = blend::recompress<TestType>::blend(p.pool, weights, {.rank = rank});
        REQUIRE(blended);
        check_best(*blended, p.adapters, weights);
      }
    }
  };
  run(float{});
  run(bf16{});
  run(f16{});
}
