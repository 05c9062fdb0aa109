// SPDX-License-Identifier: MIT
// PEFT's sparse combinations as they are, to reproduce adapters that were made with them:
// `peft_ties`, `peft_dare_linear`, `peft_dare_ties`, `peft_magnitude_prune`.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/peft_factors.hpp>
#include <crayon/blend/sparse.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>

namespace crayon::blend {

/// LoraModel.add_weighted_adapter of PEFT 0.21 with combination_type "ties", "dare_linear",
/// "dare_ties" or "magnitude_prune". At each site A and B are blended apart, each as one vector:
/// trimmed or dropped to `density`, then summed, or merged by the majority of the signs, with the
/// weights sign(w s) |w s|^(1/2) for A and |w s|^(1/2) for B.
///
/// What that computes is not the same rule applied to dW: B_i A_j of two adapters gets into the
/// product, signs of factors have no meaning of their own (B A = (-B)(-A)), and the merge divides
/// by the number of adapters that agree, so that N equal adapters with sum w = 1 do not give that
/// adapter. The forms without these faults are in ties.hpp, dare.hpp and magnitude_prune.hpp.
///
/// As in PEFT, one adapter alone is only weighted, not pruned. Other than in PEFT, an adapter of
/// weight 0 takes no part (there it votes); `dare` drops by crayon's own random numbers, not
/// torch's; a LoRA bias, which PEFT leaves out, is blended as a vector by the same rule; and the
/// result has scale 1 (with use_rslora PEFT's has sqrt(r), because its alpha is r).
template <sparse_rule Rule>
struct peft_sparse {
  [[nodiscard]] static constexpr std::string_view name() noexcept {
    switch (Rule) {
      case sparse_rule::magnitude_prune:
        return "peft_magnitude_prune";
      case sparse_rule::ties:
        return "peft_ties";
      case sparse_rule::dare:
        return "peft_dare_linear";
      case sparse_rule::dare_ties:
        return "peft_dare_ties";
    }
    return "?";
  }

  /// Sites are spread over the executor's threads.
  template <factor_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<adapter::lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights, const sparse_options& options = {},
      X&& threads = X{}) {
    CRAYON_TRY(auto shapes, peft_shapes(pool, weights, name()));
    adapter::lora_adapter<typename P::element_type> out(std::move(shapes));
    factor_workspace<typename P::element_type> workspace;
    CRAYON_CHECK(blend_into(pool, weights, out, workspace, options, threads));
    return out;
  }

  /// The same into an adapter of exactly those shapes; allocates nothing once the workspace has
  /// grown. After an error the content of `out` is unspecified.
  template <factor_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<void> blend_into(
      const P& pool, std::span<const weighted_slot> weights,
      adapter::lora_adapter<typename P::element_type>& out,
      factor_workspace<typename P::element_type>& workspace, const sparse_options& options = {},
      X&& threads = X{}) {
    CRAYON_CHECK(check_options(options));
    CRAYON_CHECK(check_peft_target(pool, weights, name(), out));
    std::size_t active = 0;
    for (const auto& w : weights) active += w.weight != 0;
    const std::size_t parts = threads.concurrency();
    workspace.begin(parts, weights.size());
    threads.parallel_for(parts, [&](std::size_t part) {
      auto& work = workspace.parts[part];
      for (std::size_t i = part; i < pool.sites(); i += parts) {
        select_slots(pool, i, weights, work);
        if (!site(pool, i, active == 1, options, work, out) && i < work.overflow) {
          work.overflow = i;
        }
      }
    });
    return workspace.finish(pool, weights);
  }

 private:
  template <factor_source P, class Part>
  static bool site(const P& pool, std::size_t i, bool alone, const sparse_options& options,
                   Part& work, adapter::lora_adapter<typename P::element_type>& out) {
    using E = typename P::element_type;
    const auto a = out.a(i), b = out.b(i);
    if (pool.kind(i) == adapter::site_kind::bias) {
      for (std::size_t j = 0; j < a.size(); ++j) a.data[j] = from_float<E>(1);
      work.rows.resize(work.slots.size() * b.size());
      for (std::size_t k = 0; k < work.slots.size(); ++k) {
        bias_row(pool, work.slots[k], i, work.copied, work.rows.data() + k * b.size());
      }
      work.roots = work.weights;
      return merge(pool.module(i), 'b', alone, options, work, b);
    }
    for (const bool of_a : {true, false}) {
      const auto to = of_a ? a : b;
      work.rows.resize(work.slots.size() * to.size());
      work.copied.resize(to.size());
      work.roots.clear();
      for (std::size_t k = 0; k < work.slots.size(); ++k) {
        const std::size_t slot = work.slots[k];
        const matrix_view<E> copied(work.copied.data(), to.rows, to.cols);
        of_a ? pool.copy_a(slot, i, copied) : pool.copy_b(slot, i, copied);
        float* row = work.rows.data() + k * to.size();
        for (std::size_t j = 0; j < to.size(); ++j) row[j] = to_float(copied.data[j]);
        work.roots.push_back(peft_root(work.weights[k], pool.scale(slot, i), of_a));
      }
      if (!merge(pool.module(i), of_a ? 'a' : 'b', alone, options, work, to)) return false;
    }
    return true;
  }

  /// Prunes the rows of one factor, adds them up and rounds.
  template <class Part, element E>
  static bool merge(std::string_view module, char factor, bool alone, const sparse_options& options,
                    Part& work, matrix_view<E> to) {
    const std::size_t count = to.size();
    for (std::size_t k = 0; !alone && k < work.slots.size(); ++k) {
      const std::span row(work.rows.data() + k * count, count);
      if constexpr (drops(Rule)) {
        drop_and_rescale(row, options.density,
                         drop_stream(options.seed, work.slots[k], module, factor));
      } else {
        keep_largest(row, number_kept(options.density, count));
      }
    }
    work.merged.resize(count);
    const matrix_view<const float> rows(work.rows.data(), work.slots.size(), count);
    if (elects(Rule) && !alone) {
      merge_unweighted_majority(rows, work.roots.data(), options.elect, work.merged.data());
    } else {
      sum_rows(rows, work.roots.data(), work.merged.data());
    }
    return round_to<E>(work.merged, to.data);
  }
};

using peft_ties = peft_sparse<sparse_rule::ties>;
using peft_dare_linear = peft_sparse<sparse_rule::dare>;
using peft_dare_ties = peft_sparse<sparse_rule::dare_ties>;
using peft_magnitude_prune = peft_sparse<sparse_rule::magnitude_prune>;
static_assert(blend_policy<peft_ties, adapter::pool<float>>);
static_assert(blend_policy<peft_dare_linear, adapter::pool<bf16>>);
static_assert(blend_policy<peft_dare_ties, adapter::pool<f16>>);
static_assert(blend_policy<peft_magnitude_prune, adapter::pool<float>>);

}  // namespace crayon::blend
