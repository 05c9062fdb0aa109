// SPDX-License-Identifier: MIT
// The core and KnOTS forms against the same maths on dense matrices.
#include <crayon/blend/sparse_cores.hpp>

#include <Eigen/SVD>
#include <algorithm>
#include <string>
#include <vector>

#include <crayon/blend/concat.hpp>
#include <crayon/blend/dare.hpp>
#include <crayon/blend/magnitude_prune.hpp>
#include <crayon/blend/recompress.hpp>
#include <crayon/blend/ties.hpp>

#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

using dense_matrix = Eigen::MatrixXd;

dense_matrix dense_of(const std::vector<double>& row_major, std::size_t rows) {
  using row_matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto r = static_cast<Eigen::Index>(rows);
  return Eigen::Map<const row_matrix>(row_major.data(), r,
                                      static_cast<Eigen::Index>(row_major.size()) / r);
}

/// Left singular vectors of what is not rounding.
dense_matrix left_basis(const dense_matrix& m) {
  const Eigen::JacobiSVD<dense_matrix> svd(m, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const auto kept = (svd.singularValues().array() > 1e-6 * svd.singularValues()[0]).count();
  return svd.matrixU().leftCols(kept);
}

struct dense_reference {
  std::vector<dense_matrix> changes;  // dW_i
  dense_matrix u, v;

  dense_reference(const random_pool<float>& p, std::span<const weighted_slot> weights,
                  std::size_t site) {
    dense_matrix beside, above;
    for (const auto& [slot, weight] : weights) {
      if (weight == 0) continue;
      changes.push_back(dense_of(delta_at(p.adapters[slot], site), p.pool.out(site)));
      const dense_matrix& one = changes.back();
      beside.conservativeResize(one.rows(), beside.cols() + one.cols());
      beside.rightCols(one.cols()) = one;
      above.conservativeResize(one.cols(), above.cols() + one.rows());
      above.rightCols(one.rows()) = one.transpose();
    }
    u = left_basis(beside);
    v = left_basis(above);
  }
};

/// Trim and disjoint merge of equally shaped matrices, written a second time.
dense_matrix ties_of(std::vector<dense_matrix> parts, const std::vector<double>& weights,
                     double share) {
  dense_matrix merged = dense_matrix::Zero(parts[0].rows(), parts[0].cols());
  for (dense_matrix& part : parts) {
    std::vector<double> sizes(part.data(), part.data() + part.size());
    for (double& x : sizes) x = std::abs(x);
    std::sort(sizes.rbegin(), sizes.rend());
    const auto keep = static_cast<std::size_t>(share * static_cast<double>(sizes.size()));
    const double least = sizes[std::max<std::size_t>(keep, 1) - 1];
    part = (part.array().abs() >= least).select(part, 0.0).eval();
  }
  for (Eigen::Index j = 0; j < merged.size(); ++j) {
    double sum = 0, all = 0, agree = 0, kept = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) sum += weights[i] * parts[i].data()[j];
    for (std::size_t i = 0; i < parts.size(); ++i) {
      all += std::abs(weights[i]);
      if (weights[i] * parts[i].data()[j] * sum > 0) {
        agree += std::abs(weights[i]);
        kept += weights[i] * parts[i].data()[j];
      }
    }
    merged.data()[j] = agree > 0 ? kept * all / agree : 0;
  }
  return merged;
}

dense_matrix best_of_rank(const dense_matrix& m, std::size_t rank) {
  const Eigen::JacobiSVD<dense_matrix> svd(m, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const auto k = std::min(static_cast<Eigen::Index>(rank), svd.singularValues().size());
  return svd.matrixU().leftCols(k) * svd.singularValues().head(k).asDiagonal() *
         svd.matrixV().leftCols(k).transpose();
}

constexpr double kept_share = 0.4;

std::vector<weighted_slot> four_weights() {
  return {{0, 0.7F}, {1, -0.4F}, {2, 0.0F}, {3, 0.9F}};
}

}  // namespace

TEST_CASE("an adapter and its opposite in another gauge elect nobody") {
  for (std::uint64_t seed = 181; seed < 187; ++seed) {
    rng random(seed);
    const auto shapes = random_shapes(random);
    std::vector<lora_adapter<float>> adapters{random_adapter<float>(shapes, random)};
    adapters.push_back(adapters[0]);
    for (std::size_t i = 0; i < shapes.size(); ++i) {  // (-B G, G^-1 A), G diagonal
      const auto a = adapters[1].a(i), b = adapters[1].b(i);
      for (std::size_t r = 0; r < a.rows; ++r) {
        const float g = 0.3F + random.uniform();
        for (std::size_t c = 0; c < a.cols; ++c) a(r, c) /= g;
        for (std::size_t o = 0; o < b.rows; ++o) b(o, r) *= -g;
      }
    }
    const auto pool_of_both = *pool<float>::build(adapters, {}, {});
    const std::vector<weighted_slot> weights{{0, 0.7F}, {1, 0.7F}};
    const auto check = [&](const auto& made) {
      REQUIRE(made);
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        INFO("seed " << seed << ", site " << i);
        CHECK(norm(delta_at(*made, i)) <= 1e-5 * norm(delta_at(adapters[0], i)));
      }
    };
    for (const auto elect : {blend::majority_sign::total, blend::majority_sign::frequency}) {
      check(blend::ties<>::blend(pool_of_both, weights, {.density = 1, .elect = elect}));
      check(blend::knots_ties<>::blend(pool_of_both, weights, {.density = 1, .elect = elect}));
    }
  }
}

TEST_CASE("ties on the cores, and KnOTS, are what dense matrices give") {
  const auto weights = four_weights();
  const std::vector<double> used{double{0.7F}, double{-0.4F}, double{0.9F}};
  for (std::uint64_t seed = 81; seed < 87; ++seed) {
    rng random(seed);
    const random_pool<float> p(random, 4);
    const auto core = blend::ties<>::blend(p.pool, weights, {.density = kept_share});
    const auto knots = blend::knots_ties<>::blend(p.pool, weights, {.density = kept_share});
    REQUIRE(core);
    REQUIRE(knots);
    for (std::size_t i = 0; i < p.pool.sites(); ++i) {
      INFO("seed " << seed << ", " << adapter::describe(p.pool.shapes()[i]));
      const dense_reference reference(p, weights, i);
      std::vector<dense_matrix> cores, right;
      for (const dense_matrix& one : reference.changes) {
        right.push_back(reference.u.transpose() * one);
        cores.push_back(right.back() * reference.v);
      }
      const std::size_t rank = core->shape(i).rank;
      const dense_matrix expected_core = best_of_rank(
          reference.u * ties_of(cores, used, kept_share) * reference.v.transpose(), rank);
      const dense_matrix expected_knots =
          best_of_rank(reference.u * ties_of(right, used, kept_share), rank);
      const dense_matrix actual_core = dense_of(delta_at(*core, i), p.pool.out(i));
      const dense_matrix actual_knots = dense_of(delta_at(*knots, i), p.pool.out(i));
      CHECK((actual_core - expected_core).norm() <= 1e-5 * expected_core.norm());
      CHECK((actual_knots - expected_knots).norm() <= 1e-5 * expected_knots.norm());
    }
  }
}

TEST_CASE("at density 1 the sum of the cores is recompress, at full rank the exact sum") {
  rng random(88);
  for (int repeat = 0; repeat < 5; ++repeat) {
    const random_pool<float> p(random, 4);
    const auto weights = four_weights();
    const auto best_rank = blend::recompress<>::blend(p.pool, weights);
    const auto exact = blend::concat::blend(p.pool, weights);
    const blend::sparse_options all{.density = 1}, full{.density = 1, .rank = 99};
    const auto core = blend::magnitude_prune<>::blend(p.pool, weights, all);
    const auto none_dropped = blend::dare<>::blend(p.pool, weights, all);
    const auto knots = blend::knots_magnitude_prune<>::blend(p.pool, weights, all);
    const auto whole = blend::magnitude_prune<>::blend(p.pool, weights, full);
    const auto knots_whole = blend::knots_magnitude_prune<>::blend(p.pool, weights, full);
    for (std::size_t i = 0; i < p.pool.sites(); ++i) {
      const auto sum = delta_at(*exact, i), best_sum = delta_at(*best_rank, i);
      const double bound = 1e-5 * norm(sum);
      CHECK(distance(delta_at(*core, i), best_sum) <= bound);
      CHECK(distance(delta_at(*none_dropped, i), best_sum) <= bound);
      CHECK(distance(delta_at(*knots, i), best_sum) <= bound);
      CHECK(distance(delta_at(*whole, i), sum) <= bound);
      CHECK(distance(delta_at(*knots_whole, i), sum) <= bound);
    }
  }
}

TEST_CASE("adapters that agree in every sign are summed exactly by ties at density 1") {
  rng random(89);
  const auto one = random_adapter<float>({{"q", 9, 12, 3, 0.5F}}, random);
  std::vector<lora_adapter<float>> adapters(3, one);
  for (std::size_t k = 0; k < 3; ++k) {  // the same directions, of other sizes
    for (std::size_t r = 0; r < 3; ++r) {
      const float size = 0.5F + random.uniform();
      for (std::size_t c = 0; c < 12; ++c) adapters[k].a(0)(r, c) *= size;
    }
  }
  const auto p = pool<float>::build(adapters, {}, {});
  const std::vector<weighted_slot> weights{{0, 0.5F}, {1, 0.25F}, {2, 0.75F}};
  const auto exact = delta_at(*blend::concat::blend(*p, weights), 0);
  const auto merged = blend::ties<>::blend(*p, weights, {.density = 1});
  // Small values of the cores may still differ in sign: the directions are not orthogonal.
  CHECK(distance(delta_at(*merged, 0), exact) <= 0.2 * norm(exact));
  std::fill(adapters.begin(), adapters.end(), one);
  const auto copies = pool<float>::build(adapters, {}, {});
  const auto kept = blend::ties<>::blend(*copies, weights, {.density = 1});
  const auto sum = delta_at(*blend::concat::blend(*copies, weights), 0);
  CHECK(distance(delta_at(*kept, 0), sum) <= 1e-5 * norm(sum));
}

TEST_CASE("R factors of the whole pool, given, change nothing but the time") {
  rng random(90);
  const random_pool<float> p(random, 4);
  const auto weights = four_weights();
  const auto cores = blend::compute_cores(p.pool);
  REQUIRE(cores);
  const auto given = blend::ties<>::blend(p.pool, weights, {.cores = *cores});
  const auto computed = blend::ties<>::blend(p.pool, weights);
  REQUIRE(given);
  for (std::size_t i = 0; i < p.pool.sites(); ++i) {
    const auto expected = delta_at(*computed, i);
    CHECK(distance(delta_at(*given, i), expected) <= 1e-5 * norm(expected));
  }
  rng other(91);
  const random_pool<float> q(other, 2);
  CHECK(blend::ties<>::blend(q.pool, std::vector<weighted_slot>{{0, 1.0F}}, {.cores = *cores})
            .error()
            .code == errc::bad_shape);
}

TEST_CASE("over the seeds dare has the exact sum as its mean, and the variance that it says") {
  rng random(92);
  const auto p = [&] {
    const std::vector<adapter::site_shape> shapes{{"q", 6, 5, 2, 0.5F}};
    std::vector<lora_adapter<float>> adapters;
    for (int k = 0; k < 3; ++k) adapters.push_back(random_adapter<float>(shapes, random));
    return *pool<float>::build(adapters, {}, {});
  }();
  const std::vector<weighted_slot> weights{{0, 0.5F}, {1, 0.75F}, {2, -0.5F}};
  const auto exact = delta_at(*blend::concat::blend(p, weights), 0);
  double squares = 0;  // sum_i w_i^2 |dW_i|^2
  for (std::size_t k = 0; k < 3; ++k) {
    squares += std::pow(double{weights[k].weight} * norm(delta_at(p.extract(k), 0)), 2);
  }
  constexpr int seeds = 600;
  const auto check = [&](auto policy) {
    std::vector<double> mean(exact.size(), 0.0);
    double spread = 0;
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      const blend::sparse_options options{.density = 0.5, .seed = seed, .rank = 6};
      const auto one = delta_at(*decltype(policy)::blend(p, weights, options), 0);
      for (std::size_t j = 0; j < mean.size(); ++j) mean[j] += one[j] / seeds;
      spread += std::pow(distance(one, exact), 2) / seeds;
    }
    // w^2 (1 - density) / density of the squares; the mean of 600 is within 4 of its deviations.
    CHECK(spread == Approx(squares).epsilon(0.15));
    CHECK(distance(mean, exact) <= 4 * std::sqrt(squares / seeds));
  };
  check(blend::dare<>{});
  check(blend::knots_dare<>{});
}

TEST_CASE("the same seed drops the same, another seed something else") {
  rng random(93);
  const random_pool<float> p(random, 3);
  const std::vector<weighted_slot> weights{{0, 0.5F}, {1, 0.75F}, {2, -0.5F}};
  const auto one = blend::dare_ties<>::blend(p.pool, weights, {.seed = 1});
  CHECK(same(*one, *blend::dare_ties<>::blend(p.pool, weights, {.seed = 1})));
  CHECK_FALSE(same(*one, *blend::dare_ties<>::blend(p.pool, weights, {.seed = 2})));
}

TEST_CASE("the rank of the result is the one asked for, as far as the adapters have it") {
  rng random(94);
  const std::vector<adapter::site_shape> shapes{{"q", 9, 7, 3, 0.5F},
                                                {"b", 5, 1, 1, 2.0F, adapter::site_kind::bias}};
  const std::vector<lora_adapter<float>> adapters{random_adapter<float>(shapes, random),
                                                  random_adapter<float>(shapes, random)};
  const auto p = pool<float>::build(adapters, {}, {});
  const std::vector<weighted_slot> both{{0, 0.5F}, {1, 0.75F}}, one{{1, 2.0F}};
  const auto rank_of = [&](std::size_t rank, const std::vector<weighted_slot>& w, std::size_t i) {
    const auto made = blend::ties<>::blend(*p, w, {.rank = rank});
    REQUIRE(made);
    CHECK(made->shape(i).kind == shapes[i].kind);
    return made->shape(i).rank;
  };
  CHECK(rank_of(0, both, 0) == 3);
  CHECK(rank_of(5, both, 0) == 5);
  CHECK(rank_of(9, both, 0) == 6);
  CHECK(rank_of(9, one, 0) == 3);
  CHECK(rank_of(9, both, 1) == 1);
  // One adapter in a smaller rank: not pruned, its best.
  const auto smaller = blend::ties<>::blend(*p, one, {.rank = 2});
  const auto expected = blend::recompress<>::blend(*p, one, {.rank = 2});
  const auto sum = delta_at(*expected, 0);
  CHECK(distance(delta_at(*smaller, 0), sum) <= 1e-5 * norm(sum));
}

TEST_CASE("the core forms blend into an adapter of their shapes and refuse another") {
  rng random(95);
  const random_pool<bf16> p(random, 3);
  const std::vector<weighted_slot> weights{{0, 0.5F}, {2, 0.75F}};
  lora_adapter<bf16> out(blend::ties<>::shapes(p.pool, weights));
  REQUIRE(blend::ties<>::blend_into(p.pool, weights, out));
  CHECK(same(out, *blend::ties<>::blend(p.pool, weights)));
  lora_adapter<bf16> other({{"x", 1, 1, 1, 1.0F}});
  const auto refused = blend::ties<>::blend_into(p.pool, weights, other);
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::bad_shape);
  CHECK_FALSE(blend::ties<>::blend(p.pool, weights, {.density = 0}));
}

TEST_CASE("adapters that were never trained (B = 0) are blended like others") {
  rng random(96);
  const std::vector<adapter::site_shape> shapes{{"q", 9, 7, 3, 0.5F}};
  std::vector<lora_adapter<float>> adapters{random_adapter<float>(shapes, random),
                                            random_adapter<float>(shapes, random)};
  std::fill_n(adapters[1].b(0).data, 27, 0.0F);
  const std::vector<weighted_slot> weights{{0, 0.5F}, {1, 0.75F}};
  const auto check = [&](auto policy) {
    const auto p = pool<float>::build(adapters, {}, {});
    const auto made = decltype(policy)::blend(*p, weights, {.density = 1});
    REQUIRE(made);
    return delta_at(*made, 0);
  };
  const auto half = delta(adapters[0].factors(0), 0.5);
  CHECK(distance(check(blend::magnitude_prune<>{}), half) <= 1e-5 * norm(half));
  CHECK(distance(check(blend::knots_magnitude_prune<>{}), half) <= 1e-5 * norm(half));
  std::fill_n(adapters[0].b(0).data, 27, 0.0F);
  CHECK(norm(check(blend::ties<>{})) == 0);
  CHECK(norm(check(blend::knots_ties<>{})) == 0);
}

TEST_CASE("a blend that does not fit f16 is an error, not infinity") {
  lora_adapter<f16> large({{"q", 2, 2, 1, 1000.0F}});
  for (auto m : {large.a(0), large.b(0)}) {
    for (std::size_t j = 0; j < m.size(); ++j) m.data[j] = from_float<f16>(60000);
  }
  const std::vector<lora_adapter<f16>> adapters{large, large};
  const auto p = pool<f16>::build(adapters, {}, {});
  const auto both = blend::ties<>::blend(*p, std::vector<weighted_slot>{{0, 1}, {1, 1}});
  REQUIRE(!both);
  CHECK(both.error().text ==
        "adapter 0 with weight 1.000000 makes the blend at q too large for F16");
  CHECK_FALSE(blend::ties<>::blend(*p, std::vector<weighted_slot>{{0, 1}}));
}
