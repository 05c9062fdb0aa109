// SPDX-License-Identifier: MIT
// Sparse blends of what the adapters do, not of how they are factored: the policy behind ties.hpp,
// dare.hpp and magnitude_prune.hpp. Needs Eigen.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/combine.hpp>
#include <crayon/blend/cores.hpp>
#include <crayon/blend/joint_basis.hpp>
#include <crayon/blend/peft_factors.hpp>
#include <crayon/blend/sparse.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::blend {

/// What a sparse rule works on; U and V are those of `joint_basis`.
enum class domain : std::uint8_t {
  core,    ///< U^T dW_i V, at most (n, n) with n the sum of the ranks: small whatever the model
  aligned  ///< U^T dW_i, (k, in): KnOTS (Stoica et al. 2024)
};

/// At each site the rule is applied to the adapters' weight changes in a basis that they share; the
/// result is the best adapter of `rank` for it. dW is never formed. PEFT's ties_svd,
/// dare_linear_svd, dare_ties_svd and magnitude_prune_svd prune the elements of the dense dW_i and
/// then take a dense SVD: the same idea in the basis of single weights, at 3 to 4 orders of
/// magnitude the cost, and with a result that is far from low rank, so that the SVD loses much of
/// it. crayon has no such form.
///
/// Weights count in the election and in the merge (`merge_weighted_majority`), so that w -> -w
/// negates dW, and at density 1 adapters that agree give their exact sum. A site that one adapter
/// alone takes part in is not pruned: one-hot weights give that adapter back.
template <sparse_rule Rule, domain Domain = domain::core, kernel_backend B = simd::scalar>
struct sparse {
  [[nodiscard]] static constexpr std::string_view name() noexcept {
    constexpr bool knots = Domain == domain::aligned;
    switch (Rule) {
      case sparse_rule::magnitude_prune:
        return knots ? "knots_magnitude_prune" : "magnitude_prune";
      case sparse_rule::ties:
        return knots ? "knots_ties" : "ties";
      case sparse_rule::dare:
        return knots ? "knots_dare" : "dare";
      case sparse_rule::dare_ties:
        return knots ? "knots_dare_ties" : "dare_ties";
    }
    return "?";
  }

  /// What `blend` gives: the sites in the order of the pool, scale 1.
  template <factor_source P>
  [[nodiscard]] static std::vector<adapter::site_shape> shapes(
      const P& pool, std::span<const weighted_slot> weights, std::size_t rank = 0) {
    std::vector<adapter::site_shape> sites;
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      std::size_t largest = 0, sum = 0;
      for (const auto& [slot, weight] : weights) {
        const std::size_t its = weight == 0 ? 0 : pool.rank(slot, i);
        largest = std::max(largest, its);
        sum += its;
      }
      const std::size_t most = std::min({sum, pool.out(i), pool.in(i)});
      const std::size_t given = rank == 0 ? largest : std::min(rank, most);
      sites.push_back({std::string(pool.module(i)), pool.out(i), pool.in(i),
                       std::max<std::size_t>(given, 1), 1.0F, pool.kind(i)});
    }
    return sites;
  }

  /// Sites are spread over the executor's threads.
  template <factor_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<adapter::lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights, const sparse_options& options = {},
      X&& threads = X{}) {
    CRAYON_CHECK(check_weights(pool, weights));
    adapter::lora_adapter<typename P::element_type> out(shapes(pool, weights, options.rank));
    CRAYON_CHECK(blend_into(pool, weights, out, options, threads));
    return out;
  }

  /// The same into an adapter of exactly those shapes. The small matrices are allocated.
  template <factor_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<void> blend_into(const P& pool,
                                               std::span<const weighted_slot> weights,
                                               adapter::lora_adapter<typename P::element_type>& out,
                                               const sparse_options& options = {},
                                               X&& threads = X{}) {
    CRAYON_CHECK(check_options(options));
    CRAYON_CHECK(check_weights(pool, weights));
    if (!options.cores.empty()) CRAYON_CHECK(adapter::check_cores(pool, options.cores));
    const auto needed = shapes(pool, weights, options.rank);
    for (std::size_t i = 0; i < needed.size() || out.size() != needed.size(); ++i) {
      if (out.size() == needed.size() && out.shape(i) == needed[i]) continue;
      return error{
          errc::bad_shape,
          "the adapter to blend into has " +
              (out.size() != needed.size()
                   ? std::to_string(out.size()) + " sites, needs " + std::to_string(needed.size())
                   : adapter::describe(out.shape(i)) + ", needs " + adapter::describe(needed[i]))};
    }
    std::vector<std::size_t> of;  // the slots that the cores are of
    for (std::size_t k = 0; k < pool.size(); ++k) {
      const auto used = [&](const weighted_slot& w) { return w.slot == k && w.weight != 0; };
      if (!options.cores.empty() || std::any_of(weights.begin(), weights.end(), used)) {
        of.push_back(k);
      }
    }
    adapter::pool_cores computed;
    std::span<const adapter::site_cores> cores = options.cores;
    if (cores.empty()) {
      CRAYON_TRY(computed, compute_cores(pool, std::span<const std::size_t>(of), threads));
      cores = computed;
    }
    factor_workspace<typename P::element_type> workspace;
    const std::size_t parts = threads.concurrency();
    workspace.begin(parts, weights.size());
    threads.parallel_for(parts, [&](std::size_t part) {
      auto& work = workspace.parts[part];
      combination<B, typename P::element_type> factors;
      for (std::size_t i = part; i < pool.sites(); i += parts) {
        select_slots(pool, i, weights, work);
        const bool fits = work.slots.size() == 1 && pool.rank(work.slots[0], i) == out.shape(i).rank
                              ? weigh(pool, i, work, out)
                              : site(pool, i, options, cores[i], of, work, factors, out);
        if (!fits && i < work.overflow) work.overflow = i;
      }
    });
    return workspace.finish(pool, weights);
  }

 private:
  static constexpr double rounding = 1e-6;  ///< values below this times the largest are none

  /// One adapter, in the rank that it has.
  template <factor_source P, class Part, element E>
  static bool weigh(const P& pool, std::size_t i, Part& work, adapter::lora_adapter<E>& out) {
    const matrix_view<E> b = out.b(i);
    pool.copy_a(work.slots[0], i, out.a(i));
    pool.copy_b(work.slots[0], i, b);
    const float scale = work.weights[0] * pool.scale(work.slots[0], i);
    work.merged.resize(b.size());
    for (std::size_t j = 0; j < b.size(); ++j) work.merged[j] = scale * to_float(b.data[j]);
    return round_to<E>(work.merged, b.data);
  }

  template <factor_source P, class Part, element E>
  static bool site(const P& pool, std::size_t i, const sparse_options& options,
                   const adapter::site_cores& cores, std::span<const std::size_t> of, Part& work,
                   combination<B, E>& factors, adapter::lora_adapter<E>& out) {
    const matrix_view<E> a = out.a(i), b = out.b(i);
    if (work.slots.empty()) {
      std::fill_n(a.data, a.size(), from_float<E>(0));
      std::fill_n(b.data, b.size(), from_float<E>(0));
      return true;
    }
    std::vector<std::size_t> ranks;
    std::vector<double> scales;
    for (const std::size_t slot : work.slots) {
      ranks.push_back(pool.rank(slot, i));
      scales.push_back(double{pool.scale(slot, i)});
    }
    const joint_basis basis(gram_of(pool, i, work.slots, of, cores.r_a),
                            gram_of(pool, i, work.slots, of, cores.r_b), ranks, scales);
    if constexpr (Domain == domain::core) {
      std::vector<double> rows, merged(basis.core_size());
      for (const auto& core : basis.cores) {
        rows.insert(rows.end(), core.data(), core.data() + core.size());
      }
      merge(matrix_view<double>(rows.data(), ranks.size(), merged.size()), options, pool.module(i),
            work.slots, work.weights, merged.data());
      const small_factors f = split_core(basis, merged, a.rows);
      return factors.apply(pool, i, work.slots, view(f.b), view(f.a), b, a);
    } else {
      const matrix_view<float> merged = merged_right(pool, i, options, basis, work);
      const small_factors f = split_right(basis, merged, a.rows);
      // A is the merged factor's: nothing of the adapters' own.
      const small_rows none = small_rows::Zero(f.b.rows(), f.b.cols());
      bool finite = factors.apply(pool, i, work.slots, view(f.b), view(none), b, a);
      work.rows.assign(a.size(), 0);
      B::gemm_nn(view(f.a), matrix_view<const float>(merged),
                 matrix_view<float>(work.rows.data(), a.rows, a.cols), false);
      finite &= round_to<E>(work.rows, a.data);
      return finite;
    }
  }

  /// The rule over U^T dW_i (k, in), in work.merged.
  template <factor_source P, class Part>
  static matrix_view<float> merged_right(const P& pool, std::size_t i,
                                         const sparse_options& options, const joint_basis& basis,
                                         Part& work) {
    using E = typename P::element_type;
    const auto k = static_cast<std::size_t>(basis.left.cols());
    const std::size_t in = pool.in(i);
    work.rows.assign(work.slots.size() * k * in, 0);
    for (std::size_t j = 0; j < work.slots.size(); ++j) {
      const small_rows part = basis.right_parts[j].template cast<float>();
      const std::size_t rank = pool.rank(work.slots[j], i);
      work.copied.resize(rank * in);
      const matrix_view<E> a(work.copied.data(), rank, in);
      pool.copy_a(work.slots[j], i, a);
      B::gemm_nn(view(part), matrix_view<const E>(a),
                 matrix_view<float>(work.rows.data() + j * k * in, k, in), false);
    }
    work.merged.resize(k * in);
    merge(matrix_view<float>(work.rows.data(), work.slots.size(), k * in), options, pool.module(i),
          work.slots, work.weights, work.merged.data());
    return {work.merged.data(), k, in};
  }

  /// out[j] from the rows of the adapters: (adapters, values).
  template <std::floating_point T>
  static void merge(matrix_view<T> rows, const sparse_options& options, std::string_view module,
                    std::span<const std::size_t> slots, std::span<const float> given, T* out) {
    const std::vector<T> weights(given.begin(), given.end());
    const bool alone = rows.rows == 1;
    T none = 0;  // what a vote may be off by
    for (std::size_t i = 0; i < rows.rows; ++i) {
      const std::span row(rows.row(i), rows.cols);
      T largest = 0;
      for (const T value : row) largest = std::max(largest, std::abs(value));
      for (T& value : row) {
        if (std::abs(value) < static_cast<T>(rounding) * largest) value = 0;
      }
      none += static_cast<T>(rounding) * largest * std::abs(weights[i]);
      if (alone) break;
      if constexpr (drops(Rule)) {
        drop_and_rescale(row, options.density, drop_stream(options.seed, slots[i], module, 'c'));
      } else {
        keep_largest(row, std::max<std::size_t>(number_kept(options.density, rows.cols), 1));
      }
    }
    if (elects(Rule) && !alone) {
      merge_weighted_majority(matrix_view<const T>(rows), weights.data(), options.elect, out, none);
    } else {
      sum_rows(matrix_view<const T>(rows), weights.data(), out);
    }
  }

  static matrix_view<const float> view(const small_rows& m) noexcept {
    return {m.data(), static_cast<std::size_t>(m.rows()), static_cast<std::size_t>(m.cols())};
  }
};

}  // namespace crayon::blend
