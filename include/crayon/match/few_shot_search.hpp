// SPDX-License-Identifier: MIT
// Gradient-free refinement of weights on a user's samples: CMA-ES. Needs Eigen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>

#include <crayon/core/result.hpp>
#include <crayon/core/rng.hpp>

namespace crayon::match {

struct search_options {
  std::size_t evaluations = 200;  ///< of the loss at most, that of the start included
  float step = 0.2F;              ///< standard deviation of the first candidates
  float l1 = 0;                   ///< added to the loss: l1 * sum_i |w_i|; LoraHub takes 0.05
  std::size_t population = 0;     ///< candidates per generation; 0: 4 + 3 ln(N)
  std::uint64_t seed = 1;
};

struct search_result {
  std::vector<float> weights;  ///< the best that were tried; the start, if nothing was better
  double loss = 0;             ///< there, the l1 term included
  double start_loss = 0;
  std::size_t evaluations = 0;
  std::vector<double> best;  ///< the best loss after each generation
};

/// Minimises loss(weights (N)) -> result<double> from `start`, a matcher's weights, say. The
/// covariance matrix adaptation evolution strategy with positive weights (Hansen 2016,
/// arXiv:1604.00772); LoraHub (Huang et al. 2023) searches weights of adapters in this way. Weights
/// are free: they may be negative, and need not sum to 1. The same seed gives the same result. A
/// loss that is not finite loses against every other. Errors: N = 0, options out of range, a start
/// whose loss is not finite, and whatever error the loss returns.
template <class Loss>
[[nodiscard]] result<search_result> few_shot_search(std::span<const float> start, Loss&& loss,
                                                    const search_options& options = {}) {
  using vector = Eigen::VectorXd;
  const std::size_t count = start.size();
  if (count == 0 || options.evaluations == 0 || !(options.step > 0) || !(options.l1 >= 0) ||
      !std::isfinite(options.step) || options.population == 1) {
    return error{errc::bad_value, "a search over " + std::to_string(count) + " weights with " +
                                      std::to_string(options.evaluations) + " evaluations, step " +
                                      std::to_string(options.step) + ", l1 " +
                                      std::to_string(options.l1) + ", population " +
                                      std::to_string(options.population)};
  }
  const auto dim = static_cast<Eigen::Index>(count);
  search_result found;
  found.weights.assign(start.begin(), start.end());
  std::vector<float> candidate(count);
  const auto evaluate = [&](const std::vector<float>& w) -> result<double> {
    CRAYON_TRY(const double value, loss(std::span<const float>(w)));
    ++found.evaluations;
    double norm = 0;
    for (const float x : w) norm += std::abs(double{x});
    const double total = value + double{options.l1} * norm;
    return std::isfinite(total) ? total : std::numeric_limits<double>::infinity();
  };
  CRAYON_TRY(found.loss, evaluate(found.weights));
  if (!std::isfinite(found.loss)) {
    return error{errc::bad_value, "the loss of the weights to start from is not finite"};
  }
  found.start_loss = found.loss;

  // Section numbers and symbols of the paper's appendix A; n is the dimension.
  const double n = static_cast<double>(count);
  const std::size_t lambda =
      options.population != 0 ? options.population : 4 + static_cast<std::size_t>(3 * std::log(n));
  const std::size_t mu = lambda / 2;
  vector w(static_cast<Eigen::Index>(mu));
  for (std::size_t i = 0; i < mu; ++i) {
    w(static_cast<Eigen::Index>(i)) =
        std::log((static_cast<double>(lambda) + 1) / 2) - std::log(static_cast<double>(i) + 1);
  }
  w /= w.sum();
  const double mu_eff = 1 / w.squaredNorm();
  const double c_sigma = (mu_eff + 2) / (n + mu_eff + 5);
  const double d_sigma = 1 + 2 * std::max(0.0, std::sqrt((mu_eff - 1) / (n + 1)) - 1) + c_sigma;
  const double c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n);
  const double c_1 = 2 / ((n + 1.3) * (n + 1.3) + mu_eff);
  const double c_mu =
      std::min(1 - c_1, 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) * (n + 2) + mu_eff));
  const double expected = std::sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));  // of |N(0, I)|

  rng random(options.seed);
  vector mean(dim), path_sigma = vector::Zero(dim), path_c = vector::Zero(dim);
  for (Eigen::Index j = 0; j < dim; ++j) mean(j) = double{start[static_cast<std::size_t>(j)]};
  Eigen::MatrixXd covariance = Eigen::MatrixXd::Identity(dim, dim);
  double sigma = double{options.step};
  std::vector<vector> y(lambda, vector(dim));
  std::vector<double> value(lambda);
  std::vector<std::size_t> order(lambda);
  for (std::size_t generation = 1; found.evaluations + lambda <= options.evaluations;
       ++generation) {
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(covariance);
    const vector deviation = eigen.eigenvalues().cwiseMax(1e-20).cwiseSqrt();
    if (sigma * deviation.maxCoeff() < 1e-7) break;  // below what the weights, f32, resolve
    for (std::size_t k = 0; k < lambda; ++k) {
      vector z(dim);
      for (Eigen::Index j = 0; j < dim; ++j) z(j) = double{random.normal()};
      y[k] = eigen.eigenvectors() * deviation.cwiseProduct(z);
      for (std::size_t j = 0; j < count; ++j) {
        const auto at = static_cast<Eigen::Index>(j);
        candidate[j] = static_cast<float>(mean(at) + sigma * y[k](at));
      }
      CRAYON_TRY(value[k], evaluate(candidate));
      if (value[k] < found.loss) {
        found.loss = value[k];
        found.weights = candidate;
      }
    }
    found.best.push_back(found.loss);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return value[a] < value[b]; });
    vector step = vector::Zero(dim);
    for (std::size_t i = 0; i < mu; ++i) step += w(static_cast<Eigen::Index>(i)) * y[order[i]];
    mean += sigma * step;
    const vector whitened =
        eigen.eigenvectors() * (eigen.eigenvectors().transpose() * step).cwiseQuotient(deviation);
    path_sigma =
        (1 - c_sigma) * path_sigma + std::sqrt(c_sigma * (2 - c_sigma) * mu_eff) * whitened;
    const double length = path_sigma.norm();
    const double settled =
        std::sqrt(1 - std::pow(1 - c_sigma, 2 * static_cast<double>(generation)));
    const bool stalled = length / settled >= (1.4 + 2 / (n + 1)) * expected;
    path_c = (1 - c_c) * path_c;
    if (!stalled) path_c += std::sqrt(c_c * (2 - c_c) * mu_eff) * step;
    covariance *= 1 - c_1 - c_mu + (stalled ? c_1 * c_c * (2 - c_c) : 0);
    covariance += c_1 * path_c * path_c.transpose();
    for (std::size_t i = 0; i < mu; ++i) {
      covariance += c_mu * w(static_cast<Eigen::Index>(i)) * y[order[i]] * y[order[i]].transpose();
    }
    sigma *= std::exp(c_sigma / d_sigma * (length / expected - 1));
  }
  return found;
}

}  // namespace crayon::match
