// SPDX-License-Identifier: MIT
// PEFT's combination_type "linear" as it is, to reproduce adapters that were made with it.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/peft_factors.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::blend {

/// LoraModel.add_weighted_adapter of PEFT 0.21 with combination_type "linear":
///   A = sum_i sign(w_i s_i) |w_i s_i|^(1/2) A_i,   B = sum_i |w_i s_i|^(1/2) B_i,   scale 1.
/// B A holds every w_i s_i B_i A_i and, for each pair i != j, |w_i s_i w_j s_j|^(1/2) B_i A_j with
/// the sign of w_j: N equal adapters with w = 1/N come out N times as strong. It is exact only for
/// one adapter. `concat` is exact, `recompress` the best of this size, `linear` the better mean.
///
/// Other than in PEFT the result has scale 1 with use_rslora too (there it gets sqrt(r), because
/// its alpha is r), and a LoRA bias, which PEFT leaves out, is sum_i w_i s_i b_i.
template <kernel_backend B = simd::scalar>
struct peft_linear {
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "peft_linear"; }

  /// Tiles, or the sites of a source that has none, are spread over the executor's threads.
  template <factor_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<adapter::lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights, X&& threads = X{}) {
    CRAYON_TRY(auto shapes, peft_shapes(pool, weights, name()));
    adapter::lora_adapter<typename P::element_type> out(std::move(shapes));
    factor_workspace<typename P::element_type> workspace;
    CRAYON_CHECK(blend_into(pool, weights, out, workspace, threads));
    return out;
  }

  /// The same into an adapter of exactly those shapes; allocates nothing once the workspace has
  /// grown. After an error the content of `out` is unspecified.
  template <factor_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<void> blend_into(
      const P& pool, std::span<const weighted_slot> weights,
      adapter::lora_adapter<typename P::element_type>& out,
      factor_workspace<typename P::element_type>& workspace, X&& threads = X{}) {
    CRAYON_CHECK(check_peft_target(pool, weights, name(), out));
    const std::size_t parts = threads.concurrency();
    workspace.begin(parts, weights.size());
    threads.parallel_for(parts, [&](std::size_t part) {
      auto& work = workspace.parts[part];
      for (std::size_t i = 0; i < pool.sites(); ++i) {
        const bool tiled = interleaved_source<P> && pool.kind(i) != adapter::site_kind::bias;
        if (!tiled && i % parts != part) continue;
        select_slots(pool, i, weights, work);
        bool finite;
        if (pool.kind(i) == adapter::site_kind::bias) {
          finite = bias(pool, i, work, out);
        } else {
          finite = factor<true>(pool, i, work, out.a(i), part, parts) &&
                   factor<false>(pool, i, work, out.b(i), part, parts);
        }
        if (!finite && i < work.overflow) work.overflow = i;
      }
    });
    return workspace.finish(pool, weights);
  }

 private:
  template <bool OfA, factor_source P, class Part, element E>
  static bool factor(const P& pool, std::size_t i, Part& work, matrix_view<E> to, std::size_t part,
                     std::size_t parts) {
    const std::size_t count = work.slots.size();
    work.roots.clear();
    for (std::size_t k = 0; k < count; ++k) {
      work.roots.push_back(peft_root(work.weights[k], pool.scale(work.slots[k], i), OfA));
    }
    work.pointers.resize(count);
    const auto sum = [&](E* result, std::size_t length) {
      B::weighted_sum(weighted_rows<E>{work.roots.data(), work.pointers.data(), count}, result,
                      length);
      return all_finite(std::span<const E>(result, length));
    };
    bool finite = true;
    if constexpr (interleaved_source<P>) {
      auto from = OfA ? pool.a(i) : pool.b(i);
      from.elements = to.size();  // rank 1 where no adapter takes part, whatever the pool's
      const auto [first, last] = part_of(from.tiles(), part, parts);
      for (std::size_t t = first; t < last; ++t) {
        for (std::size_t k = 0; k < count; ++k) work.pointers[k] = from.at(t, work.slots[k]);
        finite &= sum(to.data + t * from.tile, from.length(t));
      }
    } else {
      work.copied.resize(count * to.size());
      for (std::size_t k = 0; k < count; ++k) {
        const matrix_view<E> copy(work.copied.data() + k * to.size(), to.rows, to.cols);
        OfA ? pool.copy_a(work.slots[k], i, copy) : pool.copy_b(work.slots[k], i, copy);
        work.pointers[k] = copy.data;
      }
      finite = sum(to.data, to.size());
    }
    return finite;
  }

  template <factor_source P, class Part>
  static bool bias(const P& pool, std::size_t i, Part& work,
                   adapter::lora_adapter<typename P::element_type>& out) {
    using E = typename P::element_type;
    const auto b = out.b(i);
    out.a(i).data[0] = from_float<E>(1);
    work.rows.resize(b.size());
    work.merged.assign(b.size(), 0);
    for (std::size_t k = 0; k < work.slots.size(); ++k) {
      bias_row(pool, work.slots[k], i, work.copied, work.rows.data());
      for (std::size_t j = 0; j < b.size(); ++j) work.merged[j] += work.weights[k] * work.rows[j];
    }
    return round_to<E>(work.merged, b.data);
  }
};
static_assert(blend_policy<peft_linear<>, adapter::pool<float>>);
static_assert(blend_policy<peft_linear<>, adapter::pool<bf16>>);

}  // namespace crayon::blend
