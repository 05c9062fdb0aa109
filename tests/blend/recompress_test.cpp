// SPDX-License-Identifier: MIT
#include <crayon/blend/recompress.hpp>

#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include <Eigen/SVD>

#include "../model/allocations.hpp"
#include "laws.hpp"
#include "recompress_fixture.hpp"

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

/// Column k of B and row k of A are of one length, and orthogonal to the others: to the rounding of
/// the largest of them, which a small one has in all of its elements.
template <element E>
void check_gauge(factors_view<E> f, double largest, double rounding) {
  const auto product = [](auto size, auto x, auto y) {
    double sum = 0;
    for (std::size_t j = 0; j < size; ++j) sum += x(j) * y(j);
    return sum;
  };
  for (std::size_t i = 0; i < f.rank(); ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      const auto row = [&](std::size_t k) {
        return [&f, k](std::size_t c) { return double{to_float(f.a(k, c))}; };
      };
      const auto column = [&](std::size_t k) {
        return [&f, k](std::size_t r) { return double{to_float(f.b(r, k))}; };
      };
      const double a = product(f.a.cols, row(i), row(j));
      const double b = product(f.b.rows, column(i), column(j));
      const double length = product(f.b.rows, column(i), column(i));
      const double bound = rounding * std::sqrt(largest / std::max(length, 1e-7 * largest));
      if (i == j) {
        CHECK(std::abs(a - b) <= bound);
      } else {
        CHECK(std::abs(a) <= bound);
        CHECK(std::abs(b) <= bound);
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
    check_gauge(blended.factors(i), sigma[0] + bound,
                (8 * double{unit_roundoff<E>} + 1e-5) * sigma[0] + 4 * bound);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("recompress is the truncated SVD of the exact sum, in every backend",
                   "[recompress]", simd::scalar, simd::highway_dynamic) {
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

TEMPLATE_TEST_CASE("recompress takes adapters of other sites, ranks and scales", "[recompress]",
                   float, bf16) {
  rng random(62);
  for (int repeat = 0; repeat < 12; ++repeat) {
    auto adapters = random_foreign<TestType>(random, 1 + random.below(5));
    const auto weights = random_weights(random, adapters.size());
    const auto copies = adapters;
    const auto set = adapter_set<TestType>::build(std::move(adapters));
    REQUIRE(set);
    const auto blended = blend::recompress<simd::highway_static>::blend(*set, weights, {.rank = 2});
    REQUIRE(blended);
    check_best(*blended, copies, weights);
  }
}

TEMPLATE_TEST_CASE("recompress gives the adapter back for one-hot weights", "[recompress]", float,
                   bf16, f16) {
  rng random(63);
  const random_pool<TestType> p(random, 4);
  const auto cores = blend::compute_cores(p.pool);
  REQUIRE(cores);
  for (std::size_t k = 0; k < 4; ++k) {
    std::vector<float> w(4);
    w[k] = 1;
    const auto weights = blend::slots_of(w);
    // With the R factors of all four, and with those of the one alone.
    const auto cached = blend::recompress<>::blend(p.pool, weights, {.cores = *cores});
    const auto alone = blend::recompress<>::blend(p.pool, weights);
    for (std::size_t i = 0; i < p.pool.sites(); ++i) {
      const double bound = tolerance(p.adapters, weights, p.pool.module(i));
      const auto expected = delta_at(p.adapters[k], i);
      CHECK(distance(delta_at(*cached, i), expected) <= 2 * bound + 1e-6 * norm(expected));
      CHECK(distance(delta_at(*alone, i), expected) <= 2 * bound + 1e-6 * norm(expected));
    }
  }
}

TEST_CASE("recompress of copies, of zeros and of what cancels", "[recompress]") {
  rng random(64);
  std::vector<adapter::site_shape> shapes{{"q", 40, 30, 3, 0.7F}, {"k", 2, 50, 4, 1.5F}};
  const auto one = random_adapter<float>(shapes, random);
  auto adapters = std::vector<lora_adapter<float>>(6, one);
  adapters[4] = lora_adapter<float>(shapes);  // zeros
  const auto p = *pool<float>::build(adapters, {}, {});
  const auto cores = *blend::compute_cores(p);
  for (const std::vector<float>& w : std::vector<std::vector<float>>{{0.5F, 0.75F, -0.25F, 0, 3, 0},
                                                                     {0, 0, 0, 0, 1, 0},
                                                                     {1, -1, 0, 0, 0, 0},
                                                                     {0, 0, 0, 0, 0, 0},
                                                                     {1e-30F, 0, 0, 0, 0, 1e-30F},
                                                                     {1e30F, 0, 0, 0, 0, 0}}) {
    const auto weights = blend::slots_of(w);
    for (const std::size_t rank : std::vector<std::size_t>{0, 2, 9}) {
      for (const auto& kept :
           {std::span<const adapter::site_cores>(), std::span<const adapter::site_cores>(cores)}) {
        const auto blended = blend::recompress<simd::highway_static>::blend(
            p, weights, {.rank = rank, .cores = kept});
        REQUIRE(blended);
        check_best(*blended, adapters, weights);
      }
    }
  }
}

TEST_CASE("recompress of singular values that coincide", "[recompress]") {
  // Unit vectors: the core is a diagonal of ones, which tells none of them from the others.
  std::vector<lora_adapter<float>> adapters;
  for (std::size_t k = 0; k < 5; ++k) {
    adapters.emplace_back(std::vector<adapter::site_shape>{{"q", 20, 24, 4, 1.0F}});
    for (std::size_t j = 0; j < 4; ++j) {
      adapters[k].a(0)(j, 4 * k + j) = 1;
      adapters[k].b(0)(4 * k + j, j) = 1;
    }
  }
  const auto p = *pool<float>::build(adapters, {}, {});
  for (const std::size_t rank : std::vector<std::size_t>{1, 4, 7, 20}) {
    const auto weights = blend::slots_of(std::vector<float>(5, 1));
    check_best(*blend::recompress<>::blend(p, weights, {.rank = rank}), adapters, weights);
    const auto some = blend::slots_of(std::vector<float>{2, 0, 2, 0, 0.5F});
    check_best(*blend::recompress<>::blend(p, some, {.rank = rank}), adapters, some);
  }
}

TEST_CASE("recompress resolves singular values far apart", "[recompress]") {
  rng random(65);
  std::vector<lora_adapter<float>> adapters;
  for (std::size_t k = 0; k < 4; ++k) {
    adapters.push_back(random_adapter<float>({{"q", 60, 50, 6, 1.0F}}, random));
    for (std::size_t j = 0; j < 6; ++j) {
      for (std::size_t c = 0; c < 50; ++c) {
        adapters[k].a(0)(j, c) *= std::pow(0.15F, static_cast<float>(j));
      }
    }
  }
  const auto p = *pool<float>::build(adapters, {}, {});
  const std::vector<weighted_slot> weights{{0, 1}, {1, 1e-2F}, {2, -0.5F}, {3, 1e-4F}};
  for (const std::size_t rank : std::vector<std::size_t>{1, 5, 8, 12, 24}) {
    check_best(*blend::recompress<simd::highway_static>::blend(p, weights, {.rank = rank}),
               adapters, weights);
  }
  const auto exact = exact_sum(adapters, weights, "q");
  const auto expected = dense_sigma(exact, 60, 50);
  const auto spectra = blend::recompress<>::spectra(p, weights, *blend::compute_cores(p));
  REQUIRE(spectra);
  REQUIRE((*spectra)[0].sigma.size() == 24);
  CHECK((*spectra)[0].cost == 110);
  for (std::size_t k = 0; k < 24; ++k) {
    CHECK(std::abs((*spectra)[0].sigma[k] - expected[k]) <= 3e-7 * expected[0]);
  }
}

TEMPLATE_TEST_CASE("negated weights negate the recompressed change exactly", "[recompress]", float,
                   bf16, f16) {
  rng random(66);
  const random_pool<TestType> p(random, 4);
  auto weights = random_weights(random, 4);
  auto minus = weights;
  for (auto& w : minus) w.weight = -w.weight;
  const auto x = blend::recompress<>::blend(p.pool, weights, {.rank = 3});
  const auto y = blend::recompress<>::blend(p.pool, minus, {.rank = 3});
  for (std::size_t i = 0; i < p.pool.sites(); ++i) {
    auto negated = delta_at(*y, i);
    for (double& e : negated) e = -e;
    CHECK(negated == delta_at(*x, i));
  }
}

TEST_CASE("the order of the adapters does not matter to recompress", "[recompress]") {
  rng random(67);
  const random_pool<float> p(random, 5);
  auto weights = random_weights(random, 5);
  const auto blended = blend::recompress<>::blend(p.pool, weights, {.rank = 4});
  std::vector<weighted_slot> listed = weights;
  random.shuffle(listed);
  CHECK(same(*blended, *blend::recompress<>::blend(p.pool, listed, {.rank = 4})));
  std::vector<std::size_t> order{0, 1, 2, 3, 4};
  random.shuffle(order);
  std::vector<lora_adapter<float>> permuted;
  std::vector<weighted_slot> theirs;
  for (std::size_t k = 0; k < 5; ++k) {
    permuted.push_back(p.adapters[order[k]]);
    theirs.push_back({k, weights[order[k]].weight});
  }
  const auto q = *pool<float>::build(permuted, {}, {});
  check_best(*blend::recompress<>::blend(q, theirs, {.rank = 4}), p.adapters, weights);
}

TEST_CASE("threads do not change a bit of a recompression", "[recompress]") {
  rng random(68);
  thread_pool threads(2);
  for (int repeat = 0; repeat < 5; ++repeat) {
    const random_pool<bf16> p(random, 4);
    const auto weights = random_weights(random, 4);
    const auto alone = blend::recompress<simd::highway_static>::blend(p.pool, weights);
    const auto together =
        blend::recompress<simd::highway_static>::blend(p.pool, weights, {}, threads);
    CHECK(same(*alone, *together));
  }
}

TEST_CASE("recompressing into an adapter reuses its memory", "[recompress]") {
  rng random(69);
  const random_pool<float> p(random, 6);
  const auto cores = *blend::compute_cores(p.pool);
  auto weights = random_weights(random, 6);
  weights[2].weight = 1;
  lora_adapter<float> out(blend::recompress<>::shapes(p.pool, weights, 3));
  blend::recompress<>::workspace<float> work;
  REQUIRE(blend::recompress<>::blend_into(p.pool, weights, cores, out, work));
  const auto first = out;
  const std::vector<weighted_slot> other{{1, 1.0F}, {4, 0.5F}};
  REQUIRE(blend::recompress<>::blend_into(p.pool, other, cores, out, work));
  check_best(out, p.adapters, other);
  const std::size_t before = allocations();
  const auto again = blend::recompress<>::blend_into(p.pool, weights, cores, out, work);
  CHECK(allocations() == before);
  REQUIRE(again);
  CHECK(same(out, first));

  lora_adapter<float> wrong({{"x", 1, 1, 1, 1.0F}});
  CHECK(blend::recompress<>::blend_into(p.pool, weights, cores, wrong, work).error().code ==
        errc::bad_shape);
  const random_pool<float> q(random, 3);
  const auto foreign = blend::compute_cores(q.pool);
  CHECK_FALSE(blend::recompress<>::blend_into(p.pool, weights, *foreign, out, work));
}

TEST_CASE("an error target gives the smallest ranks that keep it", "[recompress]") {
  rng random(70);
  for (int repeat = 0; repeat < 6; ++repeat) {
    const random_pool<float> p(random, 4);
    const auto weights = blend::slots_of(std::vector<float>{1, 0.5F, 0.1F, 0.02F});
    std::vector<std::vector<double>> sigma;
    double all = 0;
    for (std::size_t i = 0; i < p.pool.sites(); ++i) {
      sigma.push_back(dense_sigma(exact_sum(p.adapters, weights, p.pool.module(i)), p.pool.out(i),
                                  p.pool.in(i)));
      all = std::hypot(all, tail(sigma[i], 0));
    }
    for (const double target : {0.5, 0.1, 0.01}) {
      using blend::error_scope;
      for (const auto scope : {error_scope::total, error_scope::each_site, error_scope::one_rank}) {
        const auto blended =
            blend::recompress<>::blend(p.pool, weights, {.error = target, .scope = scope});
        REQUIRE(blended);
        double off = 0;
        bool smaller_is_too_small = false;
        for (std::size_t i = 0; i < sigma.size(); ++i) {
          const std::size_t rank = blended->shape(i).rank;
          const double here = tail(sigma[i], rank), less = tail(sigma[i], rank - 1);
          off = std::hypot(off, here);
          if (scope != error_scope::each_site) continue;
          CHECK(here <= target * tail(sigma[i], 0));
          CHECK((rank == 1 || less > target * tail(sigma[i], 0)));
        }
        CHECK(off <= target * all * (1 + 1e-6));
        // One rank less at any site (at all sites, with one rank for all) is too little.
        double one_less = 0;
        for (std::size_t i = 0; i < sigma.size(); ++i) {
          const std::size_t rank = blended->shape(i).rank;
          if (scope == error_scope::total && rank > 1) {
            const double without = std::sqrt(off * off + sigma[i][rank - 1] * sigma[i][rank - 1]);
            smaller_is_too_small |= without > target * all;
          }
          one_less = std::hypot(one_less, tail(sigma[i], rank - 1));
        }
        if (scope == error_scope::total) {
          const bool least = std::all_of(blended->shapes().begin(), blended->shapes().end(),
                                         [](const auto& s) { return s.rank == 1; });
          CHECK((smaller_is_too_small || least));
        }
        if (scope == error_scope::one_rank && blended->shape(0).rank > 1) {
          CHECK(one_less > target * all);
        }
      }
    }
  }
}

TEST_CASE("recompress refuses what it cannot blend", "[recompress]") {
  rng random(71);
  const random_pool<float> p(random, 2);
  const std::vector<weighted_slot> weights{{0, 1}, {1, 1}};
  const auto error_of = [&](const auto& weight, const blend::recompress_options& options) {
    const auto blended = blend::recompress<>::blend(p.pool, weight, options);
    REQUIRE(!blended);
    return blended.error().text;
  };
  CHECK(error_of(weights, {.rank = 2, .error = 0.5}) ==
        "both a rank, 2, and an error target, 0.500000");
  CHECK(error_of(weights, {.error = -1}) == "an error target of -1.000000, needs more than 0");
  CHECK(error_of(std::vector<weighted_slot>{}, {}) == "a blend of no adapters: no weights given");
  lora_adapter<f16> large({{"q", 1, 1, 1, 60000.0F}});
  large.a(0)(0, 0) = large.b(0)(0, 0) = from_float<f16>(60000);
  const std::vector<lora_adapter<f16>> adapters{large};
  const auto blended = blend::recompress<>::blend(*pool<f16>::build(adapters, {}, {}),
                                                  std::vector<weighted_slot>{{0, 60000}});
  REQUIRE(!blended);
  CHECK(blended.error().text ==
        "adapter 0 with weight 60000.000000 makes the blend at q too large for F16");
  auto broken = p.adapters;
  broken[1].a(0)(0, 0) = std::numeric_limits<float>::quiet_NaN();
  const auto bad = blend::recompress<>::blend(*pool<float>::build(broken, {}, {}), weights);
  REQUIRE(!bad);
  CHECK(bad.error().text == "an adapter has factors at " + std::string(p.pool.module(0)) +
                                " that are not finite, or too large for an R factor in F32");
}

TEST_CASE("recompress agrees with numpy's singular value decomposition", "[recompress]") {
  const recompress_fixture f;
  const auto p = *pool<float>::build(f.adapters, {}, {});
  const auto weights = blend::slots_of(f.weights);
  const auto cores = *blend::compute_cores(p);
  const auto spectra = blend::recompress<>::spectra(p, weights, cores);
  REQUIRE(spectra);
  const auto blended = blend::recompress<simd::highway_dynamic>::blend(p, weights, {.rank = 3});
  REQUIRE(blended);
  for (std::size_t s = 0; s < 3; ++s) {
    const std::string site = "." + std::to_string(s);
    const auto sigma = f.values("sigma" + site);
    const auto& found = (*spectra)[s].sigma;
    for (std::size_t k = 0; k < std::min(sigma.size(), found.size()); ++k) {
      CHECK(std::abs(found[k] - double{sigma[k]}) <= 5e-7 * double{sigma[0]});
    }
    const auto best = f.values("best" + site);
    const std::vector<double> expected(best.begin(), best.end());
    CHECK(distance(delta_at(*blended, s), expected) <= 3e-6 * norm(expected));
  }
}
