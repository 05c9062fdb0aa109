// SPDX-License-Identifier: MIT
// The exact blend that keeps the adapters apart: y += sum_i w_i s_i B_i (A_i x).
#pragma once

#include <concepts>
#include <cstddef>
#include <iterator>
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

/// Several adapters, each with a weight: per site the factors of those that have it. Owns them, or
/// refers to those of a source (`activations::view`).
template <element E>
class weighted_adapters {
 public:
  using element_type = E;

  weighted_adapters() = default;
  weighted_adapters(weighted_adapters&&) noexcept = default;  // the parts point into owned memory
  weighted_adapters& operator=(weighted_adapters&&) noexcept = default;

  /// `adapters` have the sites of `modules`, in that order, with rank 0 where they lack one.
  weighted_adapters(std::vector<std::string> modules,
                    std::vector<adapter::lora_adapter<E>> adapters, std::span<const float> weights)
      : modules_(std::move(modules)), adapters_(std::move(adapters)) {
    CRAYON_ASSERT(adapters_.size() == weights.size());
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      first_.push_back(parts_.size());
      for (std::size_t k = 0; k < adapters_.size(); ++k) {
        auto part = adapters_[k].factors(i);
        if (part.rank() == 0) continue;
        part.scale *= weights[k];
        parts_.push_back(part);
      }
    }
    first_.push_back(parts_.size());
  }

  /// The parts of site i are parts[first[i]] .. parts[first[i + 1]]; their factors belong to
  /// somebody else.
  weighted_adapters(std::vector<std::string> modules, std::vector<factors_view<E>> parts,
                    std::vector<std::size_t> first)
      : modules_(std::move(modules)), parts_(std::move(parts)), first_(std::move(first)) {
    CRAYON_ASSERT(first_.size() == modules_.size() + 1 && first_.back() == parts_.size());
  }

  /// The sites of several, in their order.
  [[nodiscard]] static weighted_adapters of_sites(std::vector<weighted_adapters> all) {
    weighted_adapters joined;
    joined.first_.push_back(0);
    for (auto& one : all) {
      for (std::size_t i = 0; i < one.size(); ++i) {
        const auto own = one.parts(i);
        joined.modules_.push_back(std::move(one.modules_[i]));
        joined.parts_.insert(joined.parts_.end(), own.begin(), own.end());
        joined.first_.push_back(joined.parts_.size());
      }
      // The factors stay where they are in memory when their owner moves.
      std::move(one.adapters_.begin(), one.adapters_.end(), std::back_inserter(joined.adapters_));
    }
    return joined;
  }

  /// Number of sites.
  [[nodiscard]] std::size_t size() const noexcept { return modules_.size(); }
  [[nodiscard]] std::string_view module(std::size_t i) const noexcept { return modules_[i]; }
  /// The scale of each part is the adapter's scale times its weight.
  [[nodiscard]] std::span<const factors_view<E>> parts(std::size_t i) const noexcept {
    return std::span(parts_).subspan(first_[i], first_[i + 1] - first_[i]);
  }

 private:
  std::vector<std::string> modules_;
  std::vector<adapter::lora_adapter<E>> adapters_;
  std::vector<factors_view<E>> parts_;
  std::vector<std::size_t> first_;  // parts of site i: first_[i] .. first_[i + 1]
};

/// Exact, without rounding: the factors are copied as they are. Costs the memory and the time of
/// all adapters with a weight other than zero in every token.
struct activations {
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "activations"; }

  template <factor_source P>
  [[nodiscard]] static result<weighted_adapters<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights) {
    using E = typename P::element_type;
    CRAYON_CHECK(check_weights(pool, weights));
    std::vector<std::string> modules;
    for (std::size_t i = 0; i < pool.sites(); ++i) modules.emplace_back(pool.module(i));
    std::vector<adapter::lora_adapter<E>> adapters;
    std::vector<float> used;
    for (const auto& [slot, weight] : weights) {
      if (weight == 0) continue;
      std::vector<adapter::site_shape> shapes;
      for (std::size_t i = 0; i < pool.sites(); ++i) {
        shapes.push_back({modules[i], pool.out(i), pool.in(i), pool.rank(slot, i),
                          pool.scale(slot, i), pool.kind(i)});
      }
      adapters.emplace_back(std::move(shapes));
      for (std::size_t i = 0; i < pool.sites(); ++i) {
        pool.copy_a(slot, i, adapters.back().a(i));
        pool.copy_b(slot, i, adapters.back().b(i));
      }
      used.push_back(weight);
    }
    return weighted_adapters<E>(std::move(modules), std::move(adapters), used);
  }

  /// The same without copying a factor: microseconds, whatever their size. The source outlives the
  /// result and keeps its factors where they are. For sources whose factors are matrices in memory
  /// (`adapter_set`); those of a pool lie in tiles, which a forward pass cannot use.
  template <factor_source P>
    requires requires(const P& p, std::size_t i) {
      { p.factors(i, i) } -> std::same_as<factors_view<typename P::element_type>>;
    }
  [[nodiscard]] static result<weighted_adapters<typename P::element_type>> view(
      const P& source, std::span<const weighted_slot> weights) {
    using E = typename P::element_type;
    CRAYON_CHECK(check_weights(source, weights));
    std::vector<std::string> modules;
    std::vector<factors_view<E>> parts;
    std::vector<std::size_t> first{0};
    for (std::size_t i = 0; i < source.sites(); ++i) {
      modules.emplace_back(source.module(i));
      for (const auto& [slot, weight] : weights) {
        if (weight == 0 || source.rank(slot, i) == 0) continue;
        parts.push_back(source.factors(slot, i));
        parts.back().scale *= weight;
      }
      first.push_back(parts.size());
    }
    return weighted_adapters<E>(std::move(modules), std::move(parts), std::move(first));
  }
  template <factor_source P>
  static void view(const P&&,
                   std::span<const weighted_slot>) = delete;  // the factors would be gone
};
static_assert(blend_policy<activations, adapter::pool<float>>);

}  // namespace crayon::blend
