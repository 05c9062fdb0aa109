// SPDX-License-Identifier: MIT
// The factors of N adapters under training, side by side at each site.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/scaling.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/model/llama_config.hpp>

namespace crayon::train {

/// Where one adapted site of the model lies in a flat block of factors or of their gradients.
struct lora_site {
  std::size_t model_site = 0;  ///< llama_config::site
  std::size_t in = 0, out = 0;
  std::size_t rank = 0;   ///< of one adapter
  std::size_t total = 0;  ///< N * rank
  float scale = 1;
  std::size_t a = 0;  ///< offset of A_cat (total, in): the rows of adapter i follow those of i - 1
  std::size_t b = 0;  ///< offset of B_cat^T (total, out): likewise
  bool factor_wise = false;  ///< the factors are averaged, not their products
};

/// Numbers that lie together in a block of factors.
struct factor_run {
  std::size_t offset = 0;
  std::size_t count = 0;
};

/// N adapters with the same sites, ranks and scales, as one trainable block.
class lora_factors {
 public:
  lora_factors() = default;

  /// Copies the adapters in. Errors: no adapter, a module the model does not have, a shape that
  /// does not fit, adapters that differ in sites, ranks or scales.
  [[nodiscard]] static result<lora_factors> from(
      const model::llama_config& config, std::span<const adapter::lora_adapter<float>> adapters) {
    if (adapters.empty()) return error{errc::bad_value, "no adapter to train"};
    lora_factors factors;
    factors.adapters_ = adapters.size();
    factors.site_of_.assign(config.sites(), none);
    const auto& shapes = adapters[0].shapes();
    for (std::size_t i = 1; i < adapters.size(); ++i) {
      if (adapters[i].shapes() != shapes) {
        return error{errc::mismatch, "adapter " + std::to_string(i) +
                                         " and adapter 0 differ in sites, ranks or scales"};
      }
    }
    std::size_t count = 0;
    for (const auto& shape : shapes) {
      CRAYON_TRY(const std::size_t site, site_of(config, shape));
      const std::size_t total = adapters.size() * shape.rank;
      factors.site_of_[site] = factors.sites_.size();
      const std::size_t b = count + padded(total * shape.in);
      factors.sites_.push_back(
          {site, shape.in, shape.out, shape.rank, total, shape.scale, count, b, false});
      count = b + padded(total * shape.out);
    }
    factors.values_.assign(count, 0.0F);
    for (std::size_t i = 0; i < adapters.size(); ++i) factors.load(i, adapters[i]);
    return factors;
  }

  /// Copies adapter i out. Precondition: `to` has the shapes that the factors were made from.
  void store(std::size_t i, adapter::lora_adapter<float>& to) const {
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      const auto& site = sites_[s];
      const matrix_view<float> a = to.a(s), b = to.b(s);
      for (std::size_t r = 0; r < site.rank; ++r) {
        const float* row = values_.data() + site.a + (i * site.rank + r) * site.in;
        for (std::size_t j = 0; j < site.in; ++j) a(r, j) = row[j];
        for (std::size_t o = 0; o < site.out; ++o) {
          b(o, r) = values_[site.b + (i * site.rank + r) * site.out + o];
        }
      }
    }
  }

  /// Where adapter i lies in values(), in their order.
  [[nodiscard]] std::vector<factor_run> runs_of(std::size_t i) const {
    std::vector<factor_run> runs;
    for (const auto& site : sites_) {
      runs.push_back({site.a + i * site.rank * site.in, site.rank * site.in});
      runs.push_back({site.b + i * site.rank * site.out, site.rank * site.out});
    }
    return runs;
  }

  /// Adapters are blended factor by factor, as `blend::linear` does it, not by their exact sum.
  void blend_factor_wise(bool on) noexcept {
    for (auto& s : sites_) s.factor_wise = on;
  }

  [[nodiscard]] std::size_t adapters() const noexcept { return adapters_; }
  [[nodiscard]] const std::vector<lora_site>& sites() const noexcept { return sites_; }
  [[nodiscard]] std::span<float> values() noexcept { return values_; }
  [[nodiscard]] std::span<const float> values() const noexcept { return values_; }

  /// The adapted site at that site of the model, or null. Its place among `sites()` is its number.
  [[nodiscard]] const lora_site* find(std::size_t model_site) const noexcept {
    const std::size_t s = site_of_[model_site];
    return s == none ? nullptr : &sites_[s];
  }
  [[nodiscard]] std::size_t number(const lora_site& site) const noexcept {
    return static_cast<std::size_t>(&site - sites_.data());
  }

 private:
  static constexpr std::size_t none = ~std::size_t{0};

  static constexpr std::size_t padded(std::size_t count) noexcept {
    constexpr std::size_t line = alignment / sizeof(float);
    return (count + line - 1) / line * line;
  }

  static result<std::size_t> site_of(const model::llama_config& config,
                                     const adapter::site_shape& shape) {
    if (shape.kind != adapter::site_kind::linear) {
      return error{errc::unsupported, shape.module +
                                          ": training adapts the projections only, not " +
                                          std::string(adapter::name(shape.kind)) + " sites"};
    }
    for (std::size_t site = 0; site < config.sites(); ++site) {
      if (model::llama_config::module(site) != shape.module) continue;
      const auto projection = model::llama_config::projection_of(site);
      const std::size_t out = config.out(projection), in = config.in(projection);
      if (shape.out != out || shape.in != in || shape.rank == 0) {
        return error{errc::bad_shape, shape.module + ": the adapter is for (" +
                                          std::to_string(shape.out) + ", " +
                                          std::to_string(shape.in) + ") with rank " +
                                          std::to_string(shape.rank) + ", the model has (" +
                                          std::to_string(out) + ", " + std::to_string(in) + ")"};
      }
      return site;
    }
    return error{errc::not_found, shape.module + ": no such module in the model"};
  }

  void load(std::size_t i, const adapter::lora_adapter<float>& from) {
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      const auto& site = sites_[s];
      const factors_view<float> f = from.factors(s);
      for (std::size_t r = 0; r < site.rank; ++r) {
        float* row = values_.data() + site.a + (i * site.rank + r) * site.in;
        for (std::size_t j = 0; j < site.in; ++j) row[j] = f.a(r, j);
        for (std::size_t o = 0; o < site.out; ++o) {
          values_[site.b + (i * site.rank + r) * site.out + o] = f.b(o, r);
        }
      }
    }
  }

  std::size_t adapters_ = 0;
  std::vector<lora_site> sites_;
  std::vector<std::size_t> site_of_;
  aligned_vector<float> values_;
};

/// The site shapes of an adapter of that rank at `projections` of every layer, scale alpha / rank.
[[nodiscard]] inline std::vector<adapter::site_shape> lora_shapes(
    const model::llama_config& config, std::size_t rank, float alpha,
    std::span<const model::projection> projections) {
  std::vector<adapter::site_shape> shapes;
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    for (const auto p : projections) {
      shapes.push_back({model::llama_config::module(model::llama_config::site(layer, p)),
                        config.out(p), config.in(p), rank,
                        adapter::lora_scale(double{alpha}, rank, false)});
    }
  }
  return shapes;
}

/// An adapter that changes nothing yet and can learn: A ~ N(0, 1 / in), B = 0.
[[nodiscard]] inline adapter::lora_adapter<float> initial_adapter(
    std::vector<adapter::site_shape> shapes, rng& random) {
  adapter::lora_adapter<float> made(std::move(shapes));
  for (std::size_t s = 0; s < made.size(); ++s) {
    const matrix_view<float> a = made.a(s);
    const float deviation = 1 / std::sqrt(static_cast<float>(a.cols));
    for (std::size_t r = 0; r < a.rows; ++r) {
      for (std::size_t j = 0; j < a.cols; ++j) a(r, j) = deviation * random.normal();
    }
  }
  return made;
}

}  // namespace crayon::train
