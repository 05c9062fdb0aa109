// SPDX-License-Identifier: MIT
// What adapters add to the layers of the forward pass.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/model/llama_config.hpp>

namespace crayon::model {

/// The base model as it is.
struct no_delta {
  [[nodiscard]] static constexpr std::size_t scratch_size() noexcept { return 0; }
  static void add(std::size_t, matrix_view<const float>, matrix_view<float>, float*) noexcept {}
  static void add_embedding(std::span<const std::int32_t>, matrix_view<float>, float*) noexcept {}
};
static_assert(adapter_delta<no_delta>);

/// A weighted set of adapters that stays a sum, as the blend `activations` keeps it.
template <class A>
concept adapter_sum = element<typename A::element_type> && requires(const A& a, std::size_t i) {
  { a.size() } -> std::convertible_to<std::size_t>;          // number of sites
  { a.module(i) } -> std::convertible_to<std::string_view>;  // "model.layers.0.mlp.up_proj"
  { a.parts(i) } -> std::convertible_to<std::span<const factors_view<typename A::element_type>>>;
};

/// y += sum_i scale_i B_i (A_i x) at each site of one model: adapters bound to the model's layers,
/// that is, its projections, its head ("lm_head"), its embedding ("model.embed_tokens", where x is
/// one-hot: a column of A_i), and the bias of any of those layers ("<layer>.bias", where x is 1).
/// It refers to the factors: the adapters outlive it and their factors stay where they are.
template <kernel_backend B, element E>
class lora_delta {
 public:
  using element_type = E;

  /// Adds nothing until adapters are appended.
  explicit lora_delta(const llama_config& config)
      : config_(config), parts_(2 * config.sites() + 3) {}

  /// The adapter, or the sum of adapters, on that model. `weight` multiplies its scale.
  /// Errors: a module the model does not have, factors whose shapes do not fit its layer, a
  /// scale that is not finite.
  template <class A>
    requires adapter_storage<A> || adapter_sum<A>
  [[nodiscard]] static result<lora_delta> bind(const llama_config& config, const A& adapter,
                                               float weight = 1) {
    lora_delta delta(config);
    CRAYON_CHECK(delta.append(adapter, weight));
    return delta;
  }

  template <class A>
  static result<lora_delta> bind(const llama_config&, const A&& adapter, float = 1) = delete;

  /// Adds one more adapter; after an error the delta is unchanged.
  template <class A>
    requires adapter_storage<A> || adapter_sum<A>
  [[nodiscard]] result<void> append(const A& adapter, float weight = 1) {
    auto parts = parts_;
    for (std::size_t i = 0; i < adapter.size(); ++i) {
      const std::string_view module = adapter.module(i);
      const std::size_t site = find(module);
      if (site == parts_.size()) {
        return error{errc::mismatch, "adapter module " + std::string(module) +
                                         " is not a layer of this model (" +
                                         std::to_string(config_.layers) + " layers)"};
      }
      if constexpr (adapter_sum<A>) {
        for (const auto& part : adapter.parts(i))
          CRAYON_CHECK(take(parts[site], part, module, shape_at(site), weight));
      } else {
        CRAYON_CHECK(take(parts[site], adapter.factors(i), module, shape_at(site), weight));
      }
    }
    parts_ = std::move(parts);
    for (const auto& site : parts_) {
      for (const auto& part : site) scratch_ = std::max(scratch_, part.rank());
    }
    return {};
  }

  template <class A>
  result<void> append(const A&& adapter, float = 1) = delete;  // the factors would be gone

  /// Floats per token: the largest rank.
  [[nodiscard]] std::size_t scratch_size() const noexcept { return scratch_; }

  /// The factors at that site (of a projection or the head), their scales times their weights.
  [[nodiscard]] std::span<const factors_view<E>> parts(std::size_t site) const noexcept {
    return parts_[site];
  }

  /// y (tokens, out) += x (tokens, in) dW^T; scratch has tokens * scratch_size() floats.
  void add(std::size_t site, matrix_view<const float> x, matrix_view<float> y,
           float* scratch) const {
    for (const factors_view<E>& part : parts_[site]) {
      if (x.rows == 1) {
        B::gemv(part.a, x.data, scratch);
        B::gemv_add(part.scale, part.b, scratch, y.data);
        continue;
      }
      const matrix_view<float> u{scratch, x.rows, part.rank()};
      B::gemm_nt(x, part.a, u, false);
      for (std::size_t j = 0; j < u.size(); ++j) scratch[j] *= part.scale;
      B::gemm_nt(matrix_view<const float>(u), part.b, y, true);
    }
    for (const factors_view<E>& part : parts_[bias_of(site)]) add_column(part, 0, y, scratch);
  }

  /// y (tokens, dim) += scale_i B_i A_i[:, token]
  void add_embedding(std::span<const std::int32_t> tokens, matrix_view<float> y,
                     float* scratch) const {
    for (const factors_view<E>& part : parts_[embedding_site()]) {
      for (std::size_t t = 0; t < tokens.size(); ++t) {
        add_column(part, static_cast<std::size_t>(tokens[t]), y.rows_from(t, 1), scratch);
      }
    }
  }

 private:
  // parts_ has the projections and the head, then their biases in that order, then the embedding.
  [[nodiscard]] std::size_t bias_of(std::size_t site) const noexcept {
    return config_.sites() + 1 + site;
  }
  [[nodiscard]] std::size_t embedding_site() const noexcept { return 2 * config_.sites() + 2; }

  /// parts_.size() if the model has no such module.
  [[nodiscard]] std::size_t find(std::string_view module) const {
    if (module == llama_config::embedding_module) return embedding_site();
    constexpr std::string_view end = ".bias";
    const bool bias = module.ends_with(end);
    if (bias) module.remove_suffix(end.size());
    std::size_t site = 0;
    if (module == llama_config::head_module) {
      site = config_.head_site();
    } else {
      while (site < config_.sites() && llama_config::module(site) != module) ++site;
      if (site == config_.sites()) return parts_.size();
    }
    return bias ? bias_of(site) : site;
  }

  struct layer_shape {
    std::size_t out, in;
  };
  [[nodiscard]] layer_shape shape_at(std::size_t site) const noexcept {
    if (site == embedding_site()) return {config_.dim, config_.vocab};
    if (site > config_.head_site()) return {shape_at(site - bias_of(0)).out, 1};
    if (site == config_.head_site()) return {config_.vocab, config_.dim};
    const projection p = llama_config::projection_of(site);
    return {config_.out(p), config_.in(p)};
  }

  /// Every row of y += scale B A[:, column]
  static void add_column(const factors_view<E>& part, std::size_t column, matrix_view<float> y,
                         float* scratch) {
    for (std::size_t r = 0; r < part.rank(); ++r) scratch[r] = to_float(part.a(r, column));
    for (std::size_t t = 0; t < y.rows; ++t) {
      if (part.rank() == 1) {
        B::axpy(part.scale * scratch[0], part.b.data, y.row(t), part.b.rows);
      } else {
        B::gemv_add(part.scale, part.b, scratch, y.row(t));
      }
    }
  }

  [[nodiscard]] static result<void> take(std::vector<factors_view<E>>& parts, factors_view<E> part,
                                         std::string_view module, layer_shape layer, float weight) {
    if (part.a.cols != layer.in || part.b.rows != layer.out || part.a.rows != part.b.cols) {
      return error{errc::bad_shape, "adapter module " + std::string(module) + ": A " +
                                        shape(part.a.rows, part.a.cols) + " and B " +
                                        shape(part.b.rows, part.b.cols) +
                                        " do not fit the model's layer " +
                                        shape(layer.out, layer.in)};
    }
    part.scale *= weight;
    if (!std::isfinite(part.scale)) {
      return error{errc::bad_value, "adapter module " + std::string(module) +
                                        ": scale times weight " + std::to_string(weight) + " is " +
                                        std::to_string(part.scale)};
    }
    if (part.rank() > 0 && part.scale != 0) parts.push_back(part);
    return {};
  }

  [[nodiscard]] static std::string shape(std::size_t rows, std::size_t cols) {
    return "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")";
  }

  llama_config config_;
  std::vector<std::vector<factors_view<E>>> parts_;
  std::size_t scratch_ = 0;  // the largest rank
};

}  // namespace crayon::model
