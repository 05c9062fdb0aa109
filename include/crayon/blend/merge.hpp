// SPDX-License-Identifier: MIT
// The exact blend inside the base model: W + sum_i w_i s_i B_i A_i, and back.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/base_matrix.hpp>
#include <crayon/blend/finite.hpp>
#include <crayon/blend/merge_site.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/core/result.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::blend {

/// What the matrices of a merge held before it: as many bytes as the matrices that were changed.
/// (Subtracting the blend again would not give the same bits.) A program that cannot spare them
/// merges with `add`, and reads the model's file again to undo it.
template <element E>
class merged_matrices {
 public:
  merged_matrices() = default;
  merged_matrices(merged_matrices&&) noexcept = default;
  merged_matrices& operator=(merged_matrices&&) noexcept = default;

  /// Puts the base model back bit by bit and forgets it. The matrices must still be where they
  /// were.
  void restore() noexcept {
    for (const auto& [w, original] : kept_) {
      for (std::size_t r = 0; r < w.rows; ++r) {
        std::copy_n(original.get() + r * w.cols, w.cols, w.row(r));
      }
    }
    kept_.clear();
  }

  /// Matrices that a merge changed.
  [[nodiscard]] std::size_t size() const noexcept { return kept_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t count = 0;
    for (const auto& k : kept_) count += k.w.size() * sizeof(E);
    return count;
  }

 private:
  template <kernel_backend B>
  friend struct merge;

  struct kept {
    matrix_view<E> w;
    std::unique_ptr<E[]> original;  // not zeroed first: that would be one more pass
  };
  std::vector<kept> kept_;
};

/// Streams each changed matrix once, in f32 inside, and rounds each weight once. For models that
/// serve one blend for long: tokens then cost what the base model costs.
template <kernel_backend B = simd::scalar>
struct merge {
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "merge"; }

  /// W += sum_i w_i s_i B_i A_i at every site where an adapter with a weight other than zero has
  /// factors. Errors, which leave the base as it was: what `check_weights` refuses, a site that the
  /// base does not have or has in another shape, a weight that E cannot hold.
  template <factor_source P, element E, class X = serial_executor>
    requires executor<std::remove_reference_t<X>>
  [[nodiscard]] static result<merged_matrices<E>> blend(
      const P& pool, std::span<const weighted_slot> weights,
      std::span<const adapter::base_matrix<E>> base, X&& threads = X{}) {
    merged_matrices<E> done;
    const auto added = run(pool, weights, base, threads, [&](matrix_view<E> w) {
      done.kept_.push_back({w, std::make_unique_for_overwrite<E[]>(w.size())});
      return done.kept_.back().original.get();
    });
    if (added) return done;
    done.restore();
    return added.error();
  }

  /// The same, without a way back: after an error in the values the base is partly changed.
  template <factor_source P, element E, class X = serial_executor>
    requires executor<std::remove_reference_t<X>>
  [[nodiscard]] static result<void> add(const P& pool, std::span<const weighted_slot> weights,
                                        std::span<const adapter::base_matrix<E>> base,
                                        X&& threads = X{}) {
    return run(pool, weights, base, threads, [](matrix_view<E>) -> E* { return nullptr; });
  }

 private:
  /// `keep(w)` gives the memory for what w holds, or null.
  template <factor_source P, element E, class X, class Keep>
  [[nodiscard]] static result<void> run(const P& pool, std::span<const weighted_slot> weights,
                                        std::span<const adapter::base_matrix<E>> base, X& threads,
                                        const Keep& keep) {
    CRAYON_CHECK(check_weights(pool, weights));
    std::vector<const adapter::base_matrix<E>*> targets;
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      targets.push_back(nullptr);
      if (rank_at(pool, weights, i) == 0) continue;
      CRAYON_TRY(targets.back(), target_of(pool, i, base));
    }
    merge_site<B, E> site(threads.concurrency());
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      if (targets[i] == nullptr) continue;
      site.gather(pool, weights, i, targets[i]->transposed);
      if (!site.add(targets[i]->w, keep(targets[i]->w), threads)) {
        return too_large(pool, weights, i, dtype_of<E>);
      }
    }
    return {};
  }

  template <factor_source P, element E>
  [[nodiscard]] static result<const adapter::base_matrix<E>*> target_of(
      const P& pool, std::size_t site, std::span<const adapter::base_matrix<E>> base) {
    const std::string module(pool.module(site));
    const auto at =
        std::find_if(base.begin(), base.end(), [&](const auto& m) { return m.module == module; });
    if (at == base.end()) {
      return error{errc::mismatch, "the base model has no " + module + " to merge into"};
    }
    if (!at->refusal.empty()) {
      return error{errc::unsupported, module + ": " + std::string(at->refusal)};
    }
    const std::size_t out = at->transposed ? at->w.cols : at->w.rows;
    const std::size_t in = at->transposed ? at->w.rows : at->w.cols;
    if (out != pool.out(site) || in != pool.in(site)) {
      const auto shape = [](std::size_t rows, std::size_t cols) {
        std::string text("(");
        return text.append(std::to_string(rows)).append(", ").append(std::to_string(cols)) + ")";
      };
      return error{errc::bad_shape, module + ": the adapters are for " +
                                        shape(pool.out(site), pool.in(site)) +
                                        ", the base model has " + shape(out, in)};
    }
    return &*at;
  }
};

}  // namespace crayon::blend
