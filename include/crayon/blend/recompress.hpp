// SPDX-License-Identifier: MIT
// The best blend of a given rank: the truncated singular value decomposition of the exact sum,
// without ever forming a matrix of the size of W. Needs Eigen.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <crayon/adapter/cores.hpp>
#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/combine.hpp>
#include <crayon/blend/cores.hpp>
#include <crayon/blend/finite.hpp>
#include <crayon/blend/rank_choice.hpp>
#include <crayon/blend/site_core.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::blend {

struct recompress_options {
  std::size_t rank = 0;  ///< of every site; 0: the largest rank of those blended there
  double error = 0;      ///< above 0: the ranks that keep the relative error below it, before the
                         ///< factors are rounded to their element type
  error_scope scope = error_scope::total;
  std::span<const adapter::site_cores> cores = {};  ///< of all adapters; empty: computed
};

/// With [B_i] = Q_B R_B and [A_i^T] = Q_A R_A, the exact sum is Q_B K Q_A^T with the small core
/// K = R_B D R_A^T: its leading triplets are those of the sum (DESIGN.md section 6). Takes negative
/// weights. The result is balanced (|column k of B| = |row k of A|), orthogonal, of scale 1 and of
/// rank at most in, out and the sum of the ranks; ranks that the sum does not have are zeros. The
/// R factors cost some 1000 times the blend and do not depend on the weights: see `compute_cores`.
/// Sites are spread over the executor's threads; their number does not change a bit.
template <kernel_backend B = simd::scalar>
struct recompress {
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "recompress"; }

  /// What a blend needs beside its result. Keep it, and nothing is allocated by the next one.
  template <element E>
  class workspace {
    friend recompress;
    struct of_task {
      site_core<B> core;
      combination<B, E> factors;
      std::vector<typename site_core<B>::part> parts;
      std::vector<std::size_t> slots;
      aligned_vector<float> m_b, m_a;
    };
    std::vector<of_task> tasks_;
    std::vector<float> weight_;  // per slot
    std::vector<char> outcome_;  // per site
  };

  /// Sites of the given rank, as far as they can have it. Rank 0: the largest there.
  template <factor_source P>
  [[nodiscard]] static std::vector<adapter::site_shape> shapes(
      const P& pool, std::span<const weighted_slot> weights, std::size_t rank = 0) {
    std::vector<adapter::site_shape> sites;
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      std::size_t sum = 0, largest = 0;
      for (const auto& [slot, weight] : weights) {
        if (weight == 0) continue;
        sum += pool.rank(slot, i);
        largest = std::max(largest, pool.rank(slot, i));
      }
      const std::size_t most = std::min({pool.out(i), pool.in(i), sum});
      const std::size_t r =
          std::clamp<std::size_t>(rank == 0 ? largest : rank, 1, std::max<std::size_t>(most, 1));
      sites.push_back(
          {std::string(pool.module(i)), pool.out(i), pool.in(i), r, 1.0F, pool.kind(i)});
    }
    return sites;
  }

  template <factor_source P, class X = serial_executor>
    requires executor_reference<X>
  [[nodiscard]] static result<adapter::lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights, const recompress_options& options = {},
      X&& threads = X{}) {
    using E = typename P::element_type;
    CRAYON_CHECK(check_weights(pool, weights));
    if (options.rank != 0 && options.error != 0) {
      return error{errc::bad_value, "both a rank, " + std::to_string(options.rank) +
                                        ", and an error target, " + std::to_string(options.error)};
    }
    adapter::pool_cores computed;
    std::vector<std::size_t> of;  // the slots that the cores are of
    for (std::size_t k = 0; k < pool.size(); ++k) {
      const auto used = [&](const weighted_slot& w) { return w.slot == k && w.weight != 0; };
      const bool active = std::any_of(weights.begin(), weights.end(), used);
      if (!options.cores.empty() || active) of.push_back(k);
    }
    std::span<const adapter::site_cores> cores = options.cores;
    if (cores.empty()) {
      CRAYON_TRY(computed, compute_cores(pool, std::span<const std::size_t>(of), threads));
      cores = computed;
    } else {
      CRAYON_CHECK(adapter::check_cores(pool, cores));
    }
    workspace<E> work;
    auto sites = shapes(pool, weights, options.rank);
    if (options.error != 0) {
      const auto spectra = spectra_of(pool, weights, cores, of, work, threads);
      CRAYON_TRY(const auto ranks, choose_ranks(spectra, options.error, options.scope));
      for (std::size_t i = 0; i < sites.size(); ++i) {
        const std::size_t most = std::max<std::size_t>(spectra[i].sigma.size(), 1);
        sites[i].rank = std::min({ranks[i], most, sites[i].out, sites[i].in});
      }
    }
    adapter::lora_adapter<E> out(std::move(sites));
    CRAYON_CHECK(blend_sites(pool, weights, cores, of, out, work, threads));
    return out;
  }

  /// Into an adapter of the pool's sites and scale 1, whose ranks say how many triplets are taken.
  /// `cores` are those of all adapters of the pool. After an error the content of `out` is
  /// unspecified.
  template <factor_source P, class X = serial_executor>
    requires executor_reference<X>
  [[nodiscard]] static result<void> blend_into(const P& pool,
                                               std::span<const weighted_slot> weights,
                                               std::span<const adapter::site_cores> cores,
                                               adapter::lora_adapter<typename P::element_type>& out,
                                               workspace<typename P::element_type>& work,
                                               X&& threads = X{}) {
    CRAYON_CHECK(check_weights(pool, weights));
    CRAYON_CHECK(adapter::check_cores(pool, cores));
    for (std::size_t i = 0; i < std::max(pool.sites(), out.size()); ++i) {
      const bool fits = out.size() == pool.sites() && out.module(i) == pool.module(i) &&
                        out.shape(i).out == pool.out(i) && out.shape(i).in == pool.in(i) &&
                        out.shape(i).kind == pool.kind(i) && out.shape(i).scale == 1;
      if (fits) continue;
      return error{
          errc::bad_shape,
          "the adapter to blend into has other sites than the pool, or another scale: " +
              (out.size() != pool.sites()
                   ? std::to_string(out.size()) + " sites, needs " + std::to_string(pool.sites())
                   : adapter::describe(out.shape(i)) + " for " + std::string(pool.module(i)))};
    }
    return blend_sites(pool, weights, cores, {}, out, work, threads);
  }

  /// Singular values of the exact sum at each site, largest first; `cores` of all adapters.
  template <factor_source P, class X = serial_executor>
    requires executor_reference<X>
  [[nodiscard]] static result<std::vector<site_spectrum>> spectra(
      const P& pool, std::span<const weighted_slot> weights,
      std::span<const adapter::site_cores> cores, X&& threads = X{}) {
    CRAYON_CHECK(check_weights(pool, weights));
    CRAYON_CHECK(adapter::check_cores(pool, cores));
    workspace<typename P::element_type> work;
    return spectra_of(pool, weights, cores, {}, work, threads);
  }

 private:
  /// Calls run(site, task) for all sites; each thread has one task.
  template <class P, class E, class X, class Run>
  static void for_each_site(const P& pool, std::span<const weighted_slot> weights,
                            workspace<E>& work, X& threads, Run run) {
    work.weight_.assign(pool.size(), 0);
    for (const auto& [slot, weight] : weights) work.weight_[slot] = weight;
    work.tasks_.resize(std::max(work.tasks_.size(), std::size_t{threads.concurrency()}));
    std::atomic<std::size_t> next{0};
    threads.parallel_for(threads.concurrency(), [&](std::size_t t) {
      for (std::size_t i; (i = next.fetch_add(1)) < pool.sites();) run(i, work.tasks_[t]);
    });
  }

  /// `of`: the slots that the cores are of, in their order; empty: all. False: not finite.
  template <class P, class E>
  [[nodiscard]] static bool load(const P& pool, std::size_t site, const adapter::site_cores& cores,
                                 std::span<const std::size_t> of, const workspace<E>& work,
                                 typename workspace<E>::of_task& task) {
    task.parts.clear();
    task.slots.clear();
    std::size_t first = 0;
    for (std::size_t k = 0; k < (of.empty() ? pool.size() : of.size()); ++k) {
      const std::size_t slot = of.empty() ? k : of[k], rank = pool.rank(slot, site);
      if (work.weight_[slot] != 0 && rank != 0) {
        task.parts.push_back({first, rank, work.weight_[slot] * pool.scale(slot, site)});
        task.slots.push_back(slot);
      }
      first += rank;
    }
    return task.core.load(cores, task.parts);
  }

  template <class P, class E, class X>
  static std::vector<site_spectrum> spectra_of(const P& pool,
                                               std::span<const weighted_slot> weights,
                                               std::span<const adapter::site_cores> cores,
                                               std::span<const std::size_t> of, workspace<E>& work,
                                               X& threads) {
    std::vector<site_spectrum> spectra(pool.sites());
    for_each_site(pool, weights, work, threads, [&](std::size_t i, auto& task) {
      spectra[i].cost = pool.in(i) + pool.out(i);
      if (!load(pool, i, cores[i], of, work, task)) return;  // the blend reports it
      spectra[i].sigma.resize(task.core.size());
      task.core.singular_values(spectra[i].sigma);
    });
    return spectra;
  }

  template <class P, class X>
  static result<void> blend_sites(const P& pool, std::span<const weighted_slot> weights,
                                  std::span<const adapter::site_cores> cores,
                                  std::span<const std::size_t> of,
                                  adapter::lora_adapter<typename P::element_type>& out,
                                  workspace<typename P::element_type>& work, X& threads) {
    using E = typename P::element_type;
    work.outcome_.assign(pool.sites(), 0);
    for_each_site(pool, weights, work, threads, [&](std::size_t i, auto& task) {
      if (!load(pool, i, cores[i], of, work, task)) return;
      const std::size_t rank = out.shape(i).rank, columns = task.core.columns();
      task.m_b.resize(rank * columns);
      task.m_a.resize(rank * columns);
      const matrix_view<float> m_b(task.m_b.data(), rank, columns);
      const matrix_view<float> m_a(task.m_a.data(), rank, columns);
      if (columns != 0) task.core.leading(m_b, m_a);
      work.outcome_[i] =
          task.factors.apply(pool, i, task.slots, m_b, m_a, out.b(i), out.a(i)) ? 1 : 0;
    });
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      if (work.outcome_[i] != 0) continue;
      return too_large(pool, weights, i, dtype_of<E>);
    }
    return {};
  }
};
static_assert(blend_policy<recompress<>, adapter::pool<float>>);

}  // namespace crayon::blend
