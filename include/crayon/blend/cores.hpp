// SPDX-License-Identifier: MIT
// Computes the R factors that recompression needs. Needs Eigen.
#pragma once

#include <atomic>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <crayon/adapter/cores.hpp>
#include <crayon/blend/stacked_qr.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/core/executor.hpp>

namespace crayon::blend {

/// The R factors of some adapters of a source (see adapter::site_cores), in double and rounded
/// once. Once per pool: they do not depend on the weights. Sites are spread over the executor's
/// threads. Error: a factor that is not finite.
template <factor_source P, class X = serial_executor>
  requires executor_reference<X>
[[nodiscard]] result<adapter::pool_cores> compute_cores(const P& source,
                                                        std::span<const std::size_t> slots,
                                                        X&& threads = X{}) {
  using E = typename P::element_type;
  std::vector<std::size_t> columns(source.sites(), 0);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    for (const std::size_t k : slots) columns[i] += source.rank(k, i);
  }
  adapter::pool_cores cores(columns);
  std::vector<char> finite(columns.size(), 0);
  std::atomic<std::size_t> next{0};
  threads.parallel_for(threads.concurrency(), [&](std::size_t) {
    stacked_factors<E> factors;
    stacked_qr qr;
    for (std::size_t i; (i = next.fetch_add(1)) < columns.size();) {
      factors.gather(source, i, slots);
      const auto round_to = [&](Eigen::Ref<const Eigen::MatrixXd> r, matrix_view<float> to) {
        for (std::size_t row = 0; row < to.rows; ++row) {
          for (std::size_t c = row; c < to.cols; ++c) {
            to(row, c) =
                static_cast<float>(r(static_cast<Eigen::Index>(row), static_cast<Eigen::Index>(c)));
          }
        }
        return r.allFinite();
      };
      const bool a = round_to(r_of_columns(qr, factors.a), cores.r_a(i));
      const bool b = round_to(r_of_rows(qr, factors.b), cores.r_b(i));
      finite[i] = a && b ? 1 : 0;
    }
  });
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (finite[i] == 0) {
      return error{errc::bad_value,
                   "an adapter has factors at " + std::string(source.module(i)) +
                       " that are not finite, or too large for an R factor in F32"};
    }
  }
  return cores;
}

/// Of all adapters.
template <factor_source P, class X = serial_executor>
  requires executor_reference<X>
[[nodiscard]] result<adapter::pool_cores> compute_cores(const P& source, X&& threads = X{}) {
  std::vector<std::size_t> slots(source.size());
  for (std::size_t k = 0; k < slots.size(); ++k) slots[k] = k;
  return compute_cores(source, std::span<const std::size_t>(slots), threads);
}

}  // namespace crayon::blend
