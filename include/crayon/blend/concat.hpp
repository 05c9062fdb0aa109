// SPDX-License-Identifier: MIT
// The exact blend as one adapter: A = [A_1; A_2; ...], B = [w_1 s_1 B_1, w_2 s_2 B_2, ...].
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>

namespace crayon::blend {

/// Exact to one rounding of B. The rank of a site is the sum of the ranks there, its scale 1;
/// adapters of weight zero take no part. A site where nothing is left gets rank 1 and zeros,
/// because no reader of adapters accepts rank 0.
struct concat {
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "concat"; }

  /// What `blend` gives: the sites in the order of the pool.
  template <factor_source P>
  [[nodiscard]] static std::vector<adapter::site_shape> shapes(
      const P& pool, std::span<const weighted_slot> weights) {
    std::vector<adapter::site_shape> sites;
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      std::size_t rank = 0;
      for (const auto& [slot, weight] : weights) rank += weight == 0 ? 0 : pool.rank(slot, i);
      sites.push_back({std::string(pool.module(i)), pool.out(i), pool.in(i), rank == 0 ? 1 : rank,
                       1.0F, pool.kind(i)});
    }
    return sites;
  }

  template <factor_source P>
  [[nodiscard]] static result<adapter::lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights) {
    CRAYON_CHECK(check_weights(pool.size(), weights));
    adapter::lora_adapter<typename P::element_type> out(shapes(pool, weights));
    CRAYON_CHECK(blend_into(pool, weights, out));
    return out;
  }

  /// The same into an adapter of exactly those shapes; allocates nothing. After an error its
  /// content is unspecified.
  template <factor_source P>
  [[nodiscard]] static result<void> blend_into(
      const P& pool, std::span<const weighted_slot> weights,
      adapter::lora_adapter<typename P::element_type>& out) {
    using E = typename P::element_type;
    CRAYON_CHECK(check_weights(pool.size(), weights));
    CRAYON_CHECK(check_target(pool, weights, out));
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      const matrix_view<E> a = out.a(i), b = out.b(i);
      std::size_t first = 0;
      for (const auto& [slot, weight] : weights) {
        const std::size_t rank = weight == 0 ? 0 : pool.rank(slot, i);
        if (rank == 0) continue;
        const matrix_view<E> columns(b.data + first, b.rows, rank, b.stride);
        pool.copy_a(slot, i, a.rows_from(first, rank));
        pool.copy_b(slot, i, columns);
        const float scale = weight * pool.scale(slot, i);
        bool finite = true;
        for (std::size_t r = 0; r < columns.rows; ++r) {
          for (std::size_t c = 0; c < rank; ++c) {
            E& e = columns.row(r)[c];
            e = from_float<E>(scale * to_float(e));
            finite &= to_float(e) - to_float(e) == 0;  // infinity minus itself is NaN
          }
        }
        if (!finite) {
          return error{errc::bad_value, "adapter " + std::to_string(slot) + " times " +
                                            std::to_string(scale) + " is too large for " +
                                            std::string(crayon::name(dtype_of<E>)) + " at " +
                                            std::string(pool.module(i))};
        }
        first += rank;
      }
      for (std::size_t j = 0; first == 0 && j < a.size(); ++j) a.data[j] = from_float<E>(0);
      for (std::size_t j = 0; first == 0 && j < b.size(); ++j) b.data[j] = from_float<E>(0);
    }
    return {};
  }

 private:
  template <factor_source P>
  static result<void> check_target(const P& pool, std::span<const weighted_slot> weights,
                                   const adapter::lora_adapter<typename P::element_type>& out) {
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      std::size_t rank = 0;
      for (const auto& [slot, weight] : weights) rank += weight == 0 ? 0 : pool.rank(slot, i);
      const bool fits = out.size() == pool.sites() && out.module(i) == pool.module(i) &&
                        out.shape(i).out == pool.out(i) && out.shape(i).in == pool.in(i) &&
                        out.shape(i).rank == (rank == 0 ? 1 : rank) && out.shape(i).scale == 1 &&
                        out.shape(i).kind == pool.kind(i);
      if (!fits) {
        return error{
            errc::bad_shape,
            "the adapter to blend into does not have the shapes of this blend: " +
                (out.size() != pool.sites()
                     ? std::to_string(out.size()) + " sites, needs " + std::to_string(pool.sites())
                     : adapter::describe(out.shape(i)) + ", needs " +
                           adapter::describe(shapes(pool, weights)[i]))};
      }
    }
    return {};
  }
};
static_assert(factor_source<adapter::pool<float>>);
static_assert(blend_policy<concat, adapter::pool<float>>);

}  // namespace crayon::blend
