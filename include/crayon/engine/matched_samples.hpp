// SPDX-License-Identifier: MIT
// A user's samples in the index space of a pool, which may be elsewhere.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/blend/by_site.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/engine/base_model.hpp>
#include <crayon/engine/config.hpp>
#include <crayon/engine/customized_task.hpp>
#include <crayon/engine/device_answer.hpp>
#include <crayon/engine/question_measures.hpp>
#include <crayon/engine/sample.hpp>
#include <crayon/match/blend_request.hpp>
#include <crayon/match/score_noise.hpp>
#include <crayon/match/top_k.hpp>

namespace crayon::engine {

/// A pool of which the index alone is here: `serve::remote_pool`.
template <class R>
concept remote_index = requires(R& r, const match::blend_request& request, std::string_view hash) {
  { r.index()->view() } -> std::convertible_to<matrix_view<const float>>;  // (N, c d)
  {r.index()->info};                  // `adapter::pool_info` of the pool
  {r.index()->hash};                  // its identity, which the request names
  {r.blend(request, hash)->adapter};  // the adapter for these scores; of another base: an error
};

/// How scores leave the device.
struct remote_options {
  match::score_encoding scores = match::score_encoding::f32;
  std::optional<match::privacy> noise = {};  ///< added before anything is sent
};

/// Samples and the task that they are of.
template <class Config>
struct matched_samples {
  std::shared_ptr<customized_task<Config>> task;
  std::vector<float> places;  ///< (samples, task->width())
  std::size_t samples = 0;

  [[nodiscard]] matrix_view<const float> view() const noexcept {
    return {places.data(), samples, places.size() / samples};
  }
  /// One weight per adapter.
  [[nodiscard]] std::vector<float> weights() const { return task->weights_of()(view()); }
  /// (sites, adapters), where the matcher weighs each site; else nothing.
  [[nodiscard]] std::vector<float> site_weights() const {
    if constexpr (site_matcher<typename Config::matcher>) return task->site_weights_of(view());
    return {};
  }
  /// The bundle's blend of a pool by those weights, without the negligible ones.
  template <class Pool, class Threads>
  [[nodiscard]] auto blend(const Pool& pool, const customization& found, Threads& threads) const {
    if constexpr (site_matcher<typename Config::matcher>) {
      const auto& w = found.site_weights;
      return crayon::blend::by_site<typename Config::blend>(
          pool, {w.data(), w.size() / pool.size(), pool.size()}, crayon::blend::negligible,
          threads);
    } else {
      return Config::blend::blend(
          pool, crayon::blend::slots_of(found.weights, crayon::blend::negligible));
    }
  }
  /// The same with noise (match/score_noise.hpp). Error: a matcher of which no bound is known.
  [[nodiscard]] result<std::vector<float>> weights(const match::privacy& noise) const {
    using M = typename Config::matcher;
    if constexpr (match::averages_samples<M> || std::same_as<M, match::top_k>) {
      return match::private_weights(task->matcher, task->view(), view(), noise);
    } else {
      return error{errc::unsupported,
                   "no bound is known on what one sample changes in the "
                   "weights of " +
                       std::string(M::name())};
    }
  }
};

/// Embeds the samples by the model without an adapter. Pool: info(), index(), size(). Errors: no
/// samples, one that is longer than the session's context, a pool that was made for something else.
template <class Config, class Pool, class Session, class Threads>
[[nodiscard]] result<matched_samples<Config>> match_samples(const base_model<Config>& base,
                                                            Session& session, const Pool& pool,
                                                            std::span<const sample> samples,
                                                            const pool_overrides& overrides,
                                                            const question_measures& measures,
                                                            Threads& threads) {
  if (samples.empty()) return error{errc::bad_value, "no samples to customize from"};
  matched_samples<Config> made{std::make_shared<customized_task<Config>>(), {}, samples.size()};
  auto& task = *made.task;
  CRAYON_CHECK(task.remember(pool, base, overrides));
  const std::size_t dim = task.width();
  made.places.resize(samples.size() * dim);
  task.domain_space = measures.domains;
  if (task.domain_space) task.domains.assign(task.domain_space->domains, 0);
  std::vector<float> prompts(samples.size() * dim);
  std::size_t placed = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const encoded_sample one = encode_sample(base.tokens, samples[i]);
    session.reset();
    if (const auto fits = session.check(one.ids); !fits) {
      return error{fits.error().code, "sample " + std::to_string(i) + ": " + fits.error().text};
    }
    task.embed(session, one.ids, one.prompt_tokens, std::span(made.places).subspan(i * dim, dim),
               std::span(prompts).subspan(i * dim, dim), threads);
    if (!task.domain_space || one.prompt_tokens < 2) continue;  // BOS alone is of no domain
    ++placed;
    const std::span<const std::int32_t> ids(one.ids);
    const auto w =
        domain_weights(session, ids.first(one.prompt_tokens), *task.domain_space, threads);
    for (std::size_t d = 0; d < w.size(); ++d) task.domains[d] += w[d];
  }
  for (float& p : task.domains) {
    p = placed == 0 ? router::not_measured : p / static_cast<float>(placed);
  }
  task.distance.fit({prompts.data(), samples.size(), dim}, task.weights_of());
  return made;
}

namespace detail {

/// An index that came from elsewhere, read as a pool is.
template <class Index>
struct index_alone {
  const Index& from;

  [[nodiscard]] std::size_t size() const noexcept { return from.view().rows; }
  [[nodiscard]] matrix_view<const float> index() const noexcept { return from.view(); }
  [[nodiscard]] const auto& info() const noexcept { return from.info; }
};

}  // namespace detail

/// What a remote pool made of the samples' scores.
template <class Config, class Remote, class Session, class Threads>
[[nodiscard]] auto match_remotely(const base_model<Config>& base, Session& session, Remote& pool,
                                  std::span<const sample> samples, const remote_options& options,
                                  pool_overrides overrides, const question_measures& measures,
                                  Threads& threads)
    -> result<std::pair<matched_samples<Config>, match::blend_request>> {
  CRAYON_TRY(const auto index, pool.index());
  overrides.blend = true;  // the server's, not this engine's
  CRAYON_TRY(auto matched,
             match_samples<Config>(base, session,
                                   detail::index_alone<std::remove_cvref_t<decltype(index)>>{index},
                                   samples, overrides, measures, threads));
  std::vector<float> scores = matched.weights();
  if (options.noise) {
    CRAYON_TRY(scores, matched.weights(*options.noise));
  }
  CRAYON_TRY(auto request, match::blend_request::make(index.hash, scores, options.scores));
  return std::pair(std::move(matched), request);
}

}  // namespace crayon::engine
