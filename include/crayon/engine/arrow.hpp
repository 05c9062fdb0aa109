// SPDX-License-Identifier: MIT
// Arrow routing in a model: per token and site, or as weights for one user. Needs Eigen.
#pragma once

#include <algorithm>
#include <cmath>
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

/// What arrow gives for some samples together.
struct arrow_match {
  std::vector<float> weights;   ///< (N): mean over the sites, sum 1
  std::vector<float> per_site;  ///< (sites of the prototypes, N): `blend::by_site` takes them
};

/// Adds nothing, and sums the coefficients of every token at every site.
template <site_matcher M>
class arrow_observer {
 public:
  /// (sites, N), of all tokens and of the first `prompt_tokens`.
  struct sums {
    std::size_t prompt_tokens = 0;
    std::vector<double> all, prompt;
    std::vector<std::size_t> seen;  // (sites): tokens
  };

  arrow_observer(const match::arrow_prototypes& prototypes, const M& routing,
                 std::span<const std::size_t> where, sums& into)
      : prototypes_(&prototypes), routing_(&routing), where_(where), into_(&into) {
    into.all.assign(prototypes.sites() * prototypes.size(), 0);
    into.prompt = into.all;
    into.seen.assign(prototypes.sites(), 0);
  }

  [[nodiscard]] std::size_t scratch_size() const noexcept { return prototypes_->size(); }
  static void add_embedding(std::span<const std::int32_t>, matrix_view<float>, float*) noexcept {}
  void add(std::size_t site, matrix_view<const float> x, matrix_view<float>,
           float* scratch) const noexcept {
    const std::size_t i = site < where_.size() ? where_[site] : no_site, n = prototypes_->size();
    if (i == no_site) return;
    for (std::size_t t = 0; t < x.rows; ++t) {
      routing_->coefficients(prototypes_->at(i), x.row(t), scratch);
      const bool of_prompt = into_->seen[i]++ < into_->prompt_tokens;
      for (std::size_t k = 0; k < n; ++k) {
        into_->all[i * n + k] += double{scratch[k]};
        if (of_prompt) into_->prompt[i * n + k] += double{scratch[k]};
      }
    }
  }

 private:
  const match::arrow_prototypes* prototypes_;
  const M* routing_;
  std::span<const std::size_t> where_;
  sums* into_;
};
static_assert(adapter_delta<arrow_observer<match::arrow>>);

/// The place of one sample: (sites, N), the mean w of its tokens' coefficients at each site, every
/// token of prompt and completion alike, as sqrt(w / sites). That is a unit vector, whose products
/// with others are their Bhattacharyya coefficients. One pass of the base model gives that of the
/// whole sample (unless empty) and that of its prompt as if there were no completion; the tokens
/// fit the session. `where`: of `sites_of`.
template <class Session, site_matcher M, executor X>
void place_by_site(Session& session, const match::arrow_prototypes& prototypes, const M& routing,
                   std::span<const std::size_t> where, std::span<const std::int32_t> ids,
                   std::size_t prompt_tokens, std::span<float> whole, std::span<float> prompt,
                   X& threads) {
  typename arrow_observer<M>::sums sums;
  sums.prompt_tokens = std::min(prompt_tokens, ids.size());
  const arrow_observer<M> observer(prototypes, routing, where, sums);
  session.reset();
  session.for_each_hidden(
      ids, [](std::size_t, std::span<const float>) {}, observer, threads);
  session.reset();
  const auto place = [&](std::span<const double> from, std::size_t tokens, std::span<float> to) {
    const double all = static_cast<double>(tokens * prototypes.sites());
    for (std::size_t j = 0; j < to.size(); ++j) {
      to[j] = all == 0 ? 0 : static_cast<float>(std::sqrt(from[j] / all));
    }
  };
  place(sums.all, ids.size(), whole);
  place(sums.prompt, sums.prompt_tokens, prompt);
}

/// Places (S, sites N) -> weights (sites, N): the mean over the samples, each as much as another
/// however long it is.
[[nodiscard]] inline std::vector<float> site_weights_of(matrix_view<const float> places,
                                                        std::size_t sites) {
  std::vector<float> weights(places.cols);
  const double scale = static_cast<double>(sites) / static_cast<double>(places.rows);
  for (std::size_t j = 0; j < places.cols; ++j) {
    double sum = 0;
    for (std::size_t s = 0; s < places.rows; ++s) {
      sum += double{places.row(s)[j]} * double{places.row(s)[j]};
    }
    weights[j] = static_cast<float>(scale * sum);
  }
  return weights;
}

/// (sites, N) -> N: the mean over the sites.
[[nodiscard]] inline std::vector<float> mean_over_sites(matrix_view<const float> weights) {
  std::vector<float> mean(weights.cols);
  for (std::size_t k = 0; k < weights.cols; ++k) {
    double sum = 0;
    for (std::size_t i = 0; i < weights.rows; ++i) sum += double{weights.row(i)[k]};
    mean[k] = static_cast<float>(sum / static_cast<double>(weights.rows));
  }
  return mean;
}

/// One pass of the base model over each sample: arrow's choice for a user, so that one adapter can
/// be blended from it. The mean over the samples of the mean over their tokens. Errors: no samples,
/// one that does not fit the session, prototypes of another model.
template <class Session, class X = serial_executor>
  requires executor_reference<X>
[[nodiscard]] result<arrow_match> match_by_arrow(Session& session,
                                                 const match::arrow_prototypes& prototypes,
                                                 std::span<const encoded_sample> samples,
                                                 match::arrow routing = {}, X&& threads = X{}) {
  CRAYON_TRY(const auto where, sites_of(session.config(), prototypes));
  const std::size_t n = prototypes.size(), sites = prototypes.sites(), width = sites * n;
  if (samples.empty() || width == 0) {
    return error{errc::bad_value, "arrow over " + std::to_string(samples.size()) + " samples, " +
                                      std::to_string(sites) + " sites and " + std::to_string(n) +
                                      " adapters"};
  }
  std::vector<float> places(samples.size() * width);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    session.reset();
    if (const auto fits = session.check(samples[i].ids); !fits) {
      return error{fits.error().code, "sample " + std::to_string(i) + ": " + fits.error().text};
    }
    place_by_site(session, prototypes, routing, where, samples[i].ids, 0,
                  std::span(places).subspan(i * width, width), {}, threads);
  }
  arrow_match made;
  made.per_site = site_weights_of({places.data(), samples.size(), width}, sites);
  made.weights = mean_over_sites({made.per_site.data(), sites, n});
  return made;
}

}  // namespace crayon::engine
