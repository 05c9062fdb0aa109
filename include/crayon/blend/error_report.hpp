// SPDX-License-Identifier: MIT
// How far a blend is from the exact sum of its adapters. Needs Eigen.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/blend/activations.hpp>
#include <crayon/blend/stacked_qr.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>

namespace crayon::blend {

/// Frobenius norms at one site, or over all of them.
struct site_error {
  std::string module;
  double error = 0;  ///< || blend - exact sum ||
  double norm = 0;   ///< || exact sum ||

  /// error / norm; where the exact sum is zero: 0 if the blend is, else infinity.
  [[nodiscard]] double relative() const noexcept {
    if (norm > 0) return error / norm;
    return error > 0 ? std::numeric_limits<double>::infinity() : 0;
  }
};

/// In the order of the pool's sites.
struct error_report {
  std::vector<site_error> sites;

  /// Over all sites, as if they were one matrix.
  [[nodiscard]] site_error total() const {
    site_error sum{"total", 0, 0};
    for (const auto& s : sites) {
      sum.error = std::hypot(sum.error, s.error);
      sum.norm = std::hypot(sum.norm, s.norm);
    }
    return sum;
  }
};

namespace error_detail {

template <element E>
std::span<const factors_view<E>> parts_of(const adapter::lora_adapter<E>& adapter, std::size_t site,
                                          factors_view<E>& memory) {
  memory = adapter.factors(site);
  return {&memory, 1};
}
template <element E>
std::span<const factors_view<E>> parts_of(const weighted_adapters<E>& sum, std::size_t site,
                                          factors_view<E>&) {
  return sum.parts(site);
}

/// Two sums of low-rank products over one pair of R factors.
template <element Exact, element Blended>
class difference {
 public:
  /// || sum_k d_k B_k A_k ||, and of that minus the blend. `rows` and `cols` of dW.
  std::pair<double, double> norms(const stacked_factors<Exact>& exact, std::span<const double> d,
                                  std::span<const factors_view<Blended>> blend, std::size_t rows,
                                  std::size_t cols) {
    const std::size_t first = exact.a.rows;
    std::size_t columns = first;
    for (const auto& part : blend) columns += part.rank();
    Eigen::VectorXd scale(static_cast<Eigen::Index>(columns));
    for (std::size_t k = 0; k < first; ++k) scale(static_cast<Eigen::Index>(k)) = d[k];
    std::size_t at = first;
    for (const auto& part : blend) {
      for (std::size_t k = 0; k < part.rank(); ++k) {
        scale(static_cast<Eigen::Index>(at++)) = -double{part.scale};
      }
    }
    const auto r_of = [&](std::size_t side, auto set) -> Eigen::MatrixXd {
      qr_.start(columns);
      for (std::size_t done = 0; columns != 0 && done < side;) {
        const std::size_t count = std::min(qr_.room(), side - done);
        set(done, count);
        qr_.add(count);
        done += count;
      }
      return qr_.finish();
    };
    const Eigen::MatrixXd r_b = r_of(rows, [&](std::size_t done, std::size_t count) {
      qr_.set(0, exact.b.rows_from(done, count));
      std::size_t column = first;
      for (const auto& part : blend) {
        qr_.set(column, part.b.rows_from(done, count));
        column += part.rank();
      }
    });
    const Eigen::MatrixXd r_a = r_of(cols, [&](std::size_t done, std::size_t count) {
      const auto some = [&](auto m) {
        m.data += done;
        m.cols = count;
        return m;
      };
      qr_.set_transposed(0, some(exact.a));
      std::size_t column = first;
      for (const auto& part : blend) {
        qr_.set_transposed(column, some(part.a));
        column += part.rank();
      }
    });
    const auto k = static_cast<Eigen::Index>(first);
    const auto rest = static_cast<Eigen::Index>(columns) - k;
    const Eigen::MatrixXd sum =
        r_b.leftCols(k) * scale.head(k).asDiagonal() * r_a.leftCols(k).transpose();
    const Eigen::MatrixXd off =
        sum + r_b.rightCols(rest) * scale.tail(rest).asDiagonal() * r_a.rightCols(rest).transpose();
    return {sum.norm(), off.norm()};
  }

 private:
  stacked_qr qr_;
};

}  // namespace error_detail

/// Compares an adapter, or weighted adapters, with sum_i w_i s_i B_i A_i, site by site. Exact: the
/// factors as they are stored, in double, through the R factors of all of them side by side; no
/// matrix of the size of W is formed and no squares cancel, so that an error of 1e-12 is still
/// seen. A site that the blend lacks counts as zero there; one that the pool lacks is an error.
/// Sites are spread over the executor's threads.
template <factor_source P, class Blended, class X = serial_executor>
  requires executor_reference<X>
[[nodiscard]] result<error_report> report_error(const P& pool,
                                                std::span<const weighted_slot> weights,
                                                const Blended& blended, X&& threads = X{}) {
  using E = typename P::element_type;
  using F = typename Blended::element_type;
  CRAYON_CHECK(check_weights(pool, weights));
  std::vector<std::optional<std::size_t>> of_blend(pool.sites());
  for (std::size_t j = 0; j < blended.size(); ++j) {
    std::size_t i = 0;
    while (i < pool.sites() && pool.module(i) != blended.module(j)) ++i;
    if (i == pool.sites()) {
      return error{errc::mismatch, "the blend has a site that its adapters lack: " +
                                       std::string(blended.module(j))};
    }
    of_blend[i] = j;
    factors_view<F> memory;
    for (const auto& part : error_detail::parts_of(blended, j, memory)) {
      if (part.b.rows == pool.out(i) && part.a.cols == pool.in(i)) continue;
      return error{errc::bad_shape, "the blend has " + std::string(pool.module(i)) + " (" +
                                        std::to_string(part.b.rows) + ", " +
                                        std::to_string(part.a.cols) + "), its adapters (" +
                                        std::to_string(pool.out(i)) + ", " +
                                        std::to_string(pool.in(i)) + ")"};
    }
  }
  std::vector<weighted_slot> active;
  std::vector<std::size_t> slots;
  for (const auto& w : weights) {
    if (w.weight == 0) continue;
    active.push_back(w);
    slots.push_back(w.slot);
  }
  error_report report;
  report.sites.resize(pool.sites());
  std::atomic<std::size_t> next{0};
  threads.parallel_for(threads.concurrency(), [&](std::size_t) {
    stacked_factors<E> exact;
    error_detail::difference<E, F> difference;
    std::vector<double> d;
    for (std::size_t i; (i = next.fetch_add(1)) < pool.sites();) {
      exact.gather(pool, i, slots);
      d.clear();
      for (const auto& [slot, weight] : active) {
        d.insert(d.end(), pool.rank(slot, i), double{weight} * double{pool.scale(slot, i)});
      }
      factors_view<F> memory;
      std::span<const factors_view<F>> parts;
      if (of_blend[i]) parts = error_detail::parts_of(blended, *of_blend[i], memory);
      const auto [norm, off] = difference.norms(exact, d, parts, pool.out(i), pool.in(i));
      report.sites[i] = {std::string(pool.module(i)), off, norm};
    }
  });
  for (const auto& s : report.sites) {
    if (!std::isfinite(s.error) || !std::isfinite(s.norm)) {
      return error{errc::bad_value, "the factors are not finite at " + s.module};
    }
  }
  return report;
}

}  // namespace crayon::blend
