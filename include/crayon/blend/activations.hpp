// SPDX-License-Identifier: MIT
// The exact blend that keeps the adapters apart: y += sum_i w_i s_i B_i (A_i x).
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

/// Several adapters, each with a weight: per site the factors of those that have it. Owns them.
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
    CRAYON_CHECK(check_weights(pool.size(), weights));
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
};
static_assert(blend_policy<activations, adapter::pool<float>>);

}  // namespace crayon::blend
