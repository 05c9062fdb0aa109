// SPDX-License-Identifier: MIT
// Arrow routing in a model: per token and site, or as weights for one user. Needs Eigen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/engine/sample.hpp>
#include <crayon/match/arrow.hpp>
#include <crayon/model/llama.hpp>

namespace crayon::engine {

/// For every site of the model the site of the prototypes, or `no_site`.
inline constexpr std::size_t no_site = ~std::size_t{0};
[[nodiscard]] inline result<std::vector<std::size_t>> sites_of(
    const model::llama_config& config, const match::arrow_prototypes& prototypes) {
  std::vector<std::size_t> where(config.sites(), no_site);
  for (std::size_t i = 0; i < prototypes.sites(); ++i) {
    std::size_t site = 0;
    while (site < where.size() && model::llama_config::module(site) != prototypes.module(i)) ++site;
    if (site == where.size()) {
      return error{errc::mismatch, "adapter module " + std::string(prototypes.module(i)) +
                                       " is not a linear layer of this model (" +
                                       std::to_string(config.layers) + " layers)"};
    }
    const std::size_t in = config.in(model::llama_config::projection_of(site));
    if (prototypes.at(i).cols != in) {
      return error{errc::bad_shape, "adapter module " + std::string(prototypes.module(i)) +
                                        ": an input of " + std::to_string(prototypes.at(i).cols) +
                                        ", the model's layer has " + std::to_string(in)};
    }
    where[site] = i;
  }
  return where;
}

/// Adapters that stay apart: at each site each token chooses among them,
/// y += sum_i c_i(x) s_i B_i (A_i x), as PEFT's create_arrow_model does. Owns a copy of the
/// factors.
template <kernel_backend B, element E>
class arrow_delta {
 public:
  using element_type = E;

  /// `source`: a pool or a set of adapters of that model. Errors: a module the model does not have,
  /// shapes that do not fit, a site that is not a linear layer.
  template <class Source>
  [[nodiscard]] static result<arrow_delta> bind(const model::llama_config& config,
                                                const Source& source, match::arrow routing = {}) {
    CRAYON_TRY(auto prototypes, match::arrow_prototypes::of(source));
    return bind(config, source, std::move(prototypes), routing);
  }

  /// With prototypes that are known already, those of the sites of `source` in its order.
  template <class Source>
  [[nodiscard]] static result<arrow_delta> bind(const model::llama_config& config,
                                                const Source& source,
                                                match::arrow_prototypes prototypes,
                                                match::arrow routing = {}) {
    if (prototypes.size() != source.size() || prototypes.sites() != source.sites()) {
      return error{errc::bad_shape, "prototypes of " + std::to_string(prototypes.size()) +
                                        " adapters at " + std::to_string(prototypes.sites()) +
                                        " sites for " + std::to_string(source.size()) +
                                        " adapters at " + std::to_string(source.sites())};
    }
    arrow_delta delta;
    delta.routing_ = routing;
    delta.prototypes_ = std::move(prototypes);
    CRAYON_TRY(delta.where_, sites_of(config, delta.prototypes_));
    for (std::size_t site = 0; site < delta.where_.size(); ++site) {
      const std::size_t i = delta.where_[site];
      const std::size_t out = config.out(model::llama_config::projection_of(site));
      if (i != no_site && source.out(i) != out) {
        return error{errc::bad_shape, "adapter module " + std::string(source.module(i)) + ": " +
                                          std::to_string(source.out(i)) +
                                          " outputs, the model's layer has " + std::to_string(out)};
      }
    }
    for (std::size_t k = 0; k < source.size(); ++k) {
      std::vector<adapter::site_shape> shapes;
      for (std::size_t i = 0; i < source.sites(); ++i) {
        shapes.push_back({std::string(source.module(i)), source.out(i), source.in(i),
                          source.rank(k, i), source.scale(k, i), source.kind(i)});
        delta.rank_ = std::max(delta.rank_, shapes.back().rank);
      }
      delta.adapters_.emplace_back(std::move(shapes));
      for (std::size_t i = 0; i < source.sites(); ++i) {
        source.copy_a(k, i, delta.adapters_.back().a(i));
        source.copy_b(k, i, delta.adapters_.back().b(i));
      }
    }
    return delta;
  }

  [[nodiscard]] std::size_t scratch_size() const noexcept { return adapters_.size() + rank_; }

  static void add_embedding(std::span<const std::int32_t>, matrix_view<float>, float*) noexcept {}
  void add(std::size_t site, matrix_view<const float> x, matrix_view<float> y,
           float* scratch) const {
    const std::size_t i = site < where_.size() ? where_[site] : no_site;
    if (i == no_site) return;
    float* u = scratch + adapters_.size();
    for (std::size_t t = 0; t < x.rows; ++t) {
      routing_.coefficients(prototypes_.at(i), x.row(t), scratch);
      for (std::size_t k = 0; k < adapters_.size(); ++k) {
        const auto f = adapters_[k].factors(i);
        if (scratch[k] == 0 || f.rank() == 0) continue;
        B::gemv(f.a, x.row(t), u);
        B::gemv_add(scratch[k] * f.scale, f.b, u, y.row(t));
      }
    }
  }

 private:
  match::arrow routing_;
  match::arrow_prototypes prototypes_;
  std::vector<std::size_t> where_;
  std::vector<adapter::lora_adapter<E>> adapters_;
  std::size_t rank_ = 0;
};

/// What arrow gives for all tokens of some samples together.
struct arrow_match {
  std::vector<float> weights;   ///< (N): mean over sites and tokens, sum 1
  std::vector<float> per_site;  ///< (sites of the prototypes, N): mean over tokens
};

/// Adds nothing, and sums the coefficients of every token at every site.
class arrow_observer {
 public:
  arrow_observer(const match::arrow_prototypes& prototypes, match::arrow routing,
                 std::span<const std::size_t> where, std::span<double> sums) noexcept
      : prototypes_(&prototypes), routing_(routing), where_(where), sums_(sums) {}

  [[nodiscard]] std::size_t scratch_size() const noexcept { return prototypes_->size(); }
  static void add_embedding(std::span<const std::int32_t>, matrix_view<float>, float*) noexcept {}
  void add(std::size_t site, matrix_view<const float> x, matrix_view<float>,
           float* scratch) const noexcept {
    const std::size_t i = site < where_.size() ? where_[site] : no_site, n = prototypes_->size();
    if (i == no_site) return;
    for (std::size_t t = 0; t < x.rows; ++t) {
      routing_.coefficients(prototypes_->at(i), x.row(t), scratch);
      for (std::size_t k = 0; k < n; ++k) sums_[i * n + k] += double{scratch[k]};
    }
  }

 private:
  const match::arrow_prototypes* prototypes_;
  match::arrow routing_;
  std::span<const std::size_t> where_;
  std::span<double> sums_;  // (sites, N)
};
static_assert(adapter_delta<arrow_observer>);

/// One pass of the base model over each sample: arrow's choice for a user, so that one adapter can
/// be blended from it. Every token of prompt and completion counts the same. Errors: no samples,
/// one that does not fit the session, prototypes of another model.
template <class Session, class X = serial_executor>
  requires executor_reference<X>
[[nodiscard]] result<arrow_match> match_by_arrow(Session& session,
                                                 const match::arrow_prototypes& prototypes,
                                                 std::span<const encoded_sample> samples,
                                                 match::arrow routing = {}, X&& threads = X{}) {
  CRAYON_TRY(const auto where, sites_of(session.config(), prototypes));
  const std::size_t n = prototypes.size(), sites = prototypes.sites();
  std::vector<double> sums(sites * n);
  const arrow_observer observer(prototypes, routing, where, sums);
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    session.reset();
    if (const auto fits = session.check(samples[i].ids); !fits) {
      return error{fits.error().code, "sample " + std::to_string(i) + ": " + fits.error().text};
    }
    session.for_each_hidden(
        samples[i].ids, [](std::size_t, std::span<const float>) {}, observer, threads);
    tokens += samples[i].ids.size();
  }
  session.reset();
  if (tokens == 0 || sums.empty()) {
    return error{errc::bad_value, "arrow over " + std::to_string(tokens) + " tokens, " +
                                      std::to_string(sites) + " sites and " + std::to_string(n) +
                                      " adapters"};
  }
  arrow_match made{std::vector<float>(n), std::vector<float>(sites * n)};
  std::vector<double> mean(n);
  for (std::size_t i = 0; i < sites; ++i) {
    for (std::size_t k = 0; k < n; ++k) {
      const double c = sums[i * n + k] / static_cast<double>(tokens);
      made.per_site[i * n + k] = static_cast<float>(c);
      mean[k] += c / static_cast<double>(sites);
    }
  }
  for (std::size_t k = 0; k < n; ++k) made.weights[k] = static_cast<float>(mean[k]);
  return made;
}

}  // namespace crayon::engine
