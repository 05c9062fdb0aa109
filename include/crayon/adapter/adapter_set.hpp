// SPDX-License-Identifier: MIT
// Adapters of one base model that need not agree in sites, ranks or scales.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/concepts.hpp>

namespace crayon::adapter {

/// Foreign adapters as they were loaded. The sites are the union of theirs; an adapter has rank 0
/// where it has no factors. Blends exactly (`activations`, `concat`); factor-wise blending needs a
/// `pool`.
template <element E>
class adapter_set {
 public:
  using element_type = E;

  adapter_set() = default;

  /// Two adapters that have the same module must agree in its (out, in) and kind.
  [[nodiscard]] static result<adapter_set> build(std::vector<lora_adapter<E>> adapters,
                                                 std::vector<std::string> names = {}) {
    if (adapters.empty()) return error{errc::bad_value, "a set of no adapters"};
    adapter_set set;
    set.adapters_ = std::move(adapters);
    set.names_ = std::move(names);
    for (std::size_t k = set.names_.size(); k < set.size(); ++k) {
      set.names_.push_back("adapter-" + std::to_string(k));
    }
    for (std::size_t k = 0; k < set.size(); ++k) {
      for (const auto& shape : set.adapters_[k].shapes()) {
        const auto known = set.find(shape.module);
        if (!known) {
          set.sites_.push_back({shape.module, shape.out, shape.in, shape.kind, k});
        } else if (const auto& s = set.sites_[*known];
                   s.out != shape.out || s.in != shape.in || s.kind != shape.kind) {
          const auto text = [](const auto& site) {
            return " (" + std::to_string(site.out) + ", " + std::to_string(site.in) + ")" +
                   (site.kind == site_kind::linear ? "" : " " + std::string(name(site.kind)));
          };
          return error{errc::bad_shape, set.names_[k] + " has " + shape.module + text(shape) +
                                            ", " + set.names_[s.first] + " has it" + text(s)};
        }
      }
    }
    set.local_.assign(set.size() * set.sites(), std::nullopt);
    for (std::size_t k = 0; k < set.size(); ++k) {
      for (std::size_t i = 0; i < set.sites(); ++i) {
        set.local_[k * set.sites() + i] = set.adapters_[k].find(set.sites_[i].module);
      }
    }
    return set;
  }

  [[nodiscard]] std::size_t size() const noexcept { return adapters_.size(); }
  [[nodiscard]] std::size_t sites() const noexcept { return sites_.size(); }
  [[nodiscard]] const lora_adapter<E>& adapter(std::size_t slot) const noexcept {
    return adapters_[slot];
  }
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }
  [[nodiscard]] std::string_view module(std::size_t site) const noexcept {
    return sites_[site].module;
  }
  [[nodiscard]] std::size_t out(std::size_t site) const noexcept { return sites_[site].out; }
  [[nodiscard]] std::size_t in(std::size_t site) const noexcept { return sites_[site].in; }
  [[nodiscard]] site_kind kind(std::size_t site) const noexcept { return sites_[site].kind; }

  /// 0 where the adapter does not have the site.
  [[nodiscard]] std::size_t rank(std::size_t slot, std::size_t site) const noexcept {
    const auto at = local(slot, site);
    return at ? adapters_[slot].shape(*at).rank : 0;
  }
  [[nodiscard]] float scale(std::size_t slot, std::size_t site) const noexcept {
    const auto at = local(slot, site);
    return at ? adapters_[slot].shape(*at).scale : 0;
  }
  /// Empty where the adapter does not have the site.
  [[nodiscard]] factors_view<E> factors(std::size_t slot, std::size_t site) const noexcept {
    const auto at = local(slot, site);
    return at ? adapters_[slot].factors(*at) : factors_view<E>{};
  }
  void copy_a(std::size_t slot, std::size_t site, matrix_view<E> to) const noexcept {
    if (const auto at = local(slot, site)) copy(adapters_[slot].factors(*at).a, to);
  }
  void copy_b(std::size_t slot, std::size_t site, matrix_view<E> to) const noexcept {
    if (const auto at = local(slot, site)) copy(adapters_[slot].factors(*at).b, to);
  }

 private:
  struct known_site {
    std::string module;
    std::size_t out, in;
    site_kind kind;
    std::size_t first;  ///< the first adapter that has it
  };

  [[nodiscard]] std::optional<std::size_t> find(std::string_view module) const noexcept {
    for (std::size_t i = 0; i < sites_.size(); ++i) {
      if (sites_[i].module == module) return i;
    }
    return std::nullopt;
  }
  [[nodiscard]] std::optional<std::size_t> local(std::size_t slot, std::size_t s) const noexcept {
    return local_[slot * sites_.size() + s];
  }
  static void copy(matrix_view<const E> from, matrix_view<E> to) noexcept {
    CRAYON_ASSERT(from.rows == to.rows && from.cols == to.cols);
    for (std::size_t r = 0; r < from.rows; ++r) {
      for (std::size_t c = 0; c < from.cols; ++c) to.row(r)[c] = from.row(r)[c];
    }
  }

  std::vector<lora_adapter<E>> adapters_;
  std::vector<std::string> names_;
  std::vector<known_site> sites_;
  std::vector<std::optional<std::size_t>> local_;  // (size, sites)
};

}  // namespace crayon::adapter
