// SPDX-License-Identifier: MIT
// R factors of the adapters of a pool: what a recompression needs of them besides their bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>

namespace crayon::adapter {

/// One site, all N adapters, neither weights nor scales in it:
///   [B_1 ... B_N] = Q_B R_B,   [A_1^T ... A_N^T] = Q_A R_A,
/// the columns in the order of the slots, as many for each as its rank there. Both (K, K) with K
/// the sum of the ranks, upper triangular, the diagonal not negative; rows that do not exist (K
/// larger than out or in) are zero. Views: of a `pool_cores`, or of a mapped file.
struct site_cores {
  matrix_view<const float> r_a;
  matrix_view<const float> r_b;
};

/// Owns the R factors of all sites.
class pool_cores {
 public:
  pool_cores() = default;
  pool_cores(pool_cores&&) noexcept = default;  // the views point into owned memory
  pool_cores& operator=(pool_cores&&) noexcept = default;

  /// Zeros; `columns` has the sum of the ranks at each site.
  explicit pool_cores(std::span<const std::size_t> columns) {
    std::size_t total = 0;
    for (const std::size_t k : columns) total += 2 * k * k;
    memory_.assign(total, 0.0F);
    float* at = memory_.data();
    for (const std::size_t k : columns) {
      sites_.push_back({{at, k, k}, {at + k * k, k, k}});
      at += 2 * k * k;
    }
  }

  /// Number of sites.
  [[nodiscard]] std::size_t size() const noexcept { return sites_.size(); }
  [[nodiscard]] std::span<const site_cores> sites() const noexcept { return sites_; }
  operator std::span<const site_cores>() const noexcept { return sites_; }

  /// To be filled.
  [[nodiscard]] matrix_view<float> r_a(std::size_t site) noexcept {
    return writable(sites_[site].r_a);
  }
  [[nodiscard]] matrix_view<float> r_b(std::size_t site) noexcept {
    return writable(sites_[site].r_b);
  }

 private:
  [[nodiscard]] matrix_view<float> writable(matrix_view<const float> m) noexcept {
    return {memory_.data() + (m.data - memory_.data()), m.rows, m.cols};
  }

  aligned_vector<float> memory_;
  std::vector<site_cores> sites_;
};

/// The sum of the ranks at a site.
template <class P>
[[nodiscard]] std::size_t core_columns(const P& source, std::size_t site) {
  std::size_t columns = 0;
  for (std::size_t k = 0; k < source.size(); ++k) columns += source.rank(k, site);
  return columns;
}

/// The cores have the sites and ranks of the adapters. (Whether they were computed from them is for
/// the one who keeps them: a pool drops its cores when an adapter changes.)
template <class P>
[[nodiscard]] result<void> check_cores(const P& source, std::span<const site_cores> cores) {
  if (cores.size() != source.sites()) {
    return error{errc::bad_shape, "R factors of " + std::to_string(cores.size()) +
                                      " sites, the adapters have " +
                                      std::to_string(source.sites())};
  }
  for (std::size_t i = 0; i < cores.size(); ++i) {
    const std::size_t k = core_columns(source, i);
    for (const auto& r : {cores[i].r_a, cores[i].r_b}) {
      if (r.rows == k && r.cols == k) continue;
      return error{errc::bad_shape,
                   "R factor (" + std::to_string(r.rows) + ", " + std::to_string(r.cols) + ") at " +
                       std::string(source.module(i)) + ", the ranks sum to " + std::to_string(k)};
    }
  }
  return {};
}

}  // namespace crayon::adapter
