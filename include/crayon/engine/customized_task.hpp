// SPDX-License-Identifier: MIT
// What an engine remembers of the task it was customized for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/engine/base_model.hpp>
#include <crayon/engine/config.hpp>
#include <crayon/engine/pool_checks.hpp>
#include <crayon/match/domain_space.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/model/delta.hpp>

namespace crayon::engine {

/// The pool's index, and the task's place in it: enough to place a query, without the pool.
template <class Config>
struct customized_task {
  static_assert(crayon::matcher<typename Config::matcher>,
                "a matcher that weighs each site needs #include <crayon/engine/arrow_task.hpp>");
  static constexpr bool needs_embedding = Config::scope_distance::needs_embedding;

  typename Config::matcher matcher;
  std::size_t adapters = 0;
  std::vector<float> index;  ///< (N, c d), c centroids of each adapter
  match::index_space space;
  std::size_t layer = 0;  ///< blocks that the embedded states have been through; 0: all
  std::size_t places = 0;
  typename Config::scope_distance distance;
  std::shared_ptr<const match::domain_space> domain_space;  ///< null: no domains are measured
  std::vector<float> domains;                               ///< P(domain) of its samples' questions

  /// (N, c d)
  [[nodiscard]] matrix_view<const float> view() const noexcept {
    return {index.data(), adapters, index.size() / adapters};
  }

  /// What embedding and matching need of a pool, which has size(), index() and info(). Errors: a
  /// pool that was made for something else.
  template <class Pool>
  [[nodiscard]] result<void> remember(const Pool& pool, const base_model<Config>& base,
                                      const pool_overrides& overrides) {
    const auto& c = base.weights.config();
    CRAYON_TRY(matcher, matcher_of<Config>(pool));
    CRAYON_CHECK(check_policies<Config>(pool, base.hash, overrides));
    CRAYON_CHECK(check_index(pool, Config::embedding::size(c.dim), c.layers));
    adapters = pool.size();
    index.assign(pool.index().data, pool.index().data + pool.index().size());
    space = {pool.info().centre, pool.info().projection};
    layer = pool.info().layer;
    places = pool.index().cols / pool.info().centroids;
    return {};
  }

  /// Length of a sample's place: d.
  [[nodiscard]] std::size_t width() const noexcept { return places; }

  /// Embeddings (S, d) -> N weights; refers to this task.
  [[nodiscard]] auto weights_of() const {
    return [this](matrix_view<const float> rows) { return matcher.weights(view(), rows); };
  }

  /// f(x) by the base model, in the pool's space: of the whole sample (unless empty), and of its
  /// prompt as if there were no completion. One pass gives both, as no state depends on later
  /// tokens. The tokens fit the session.
  template <class Session, class Threads>
  void embed(Session& session, std::span<const std::int32_t> ids, std::size_t prompt_tokens,
             std::span<float> whole, std::span<float> prompt, Threads& threads) const {
    using embedding = typename Config::embedding;
    const std::size_t dim = session.config().dim;
    std::vector<float> all(embedding::size(dim)), first(embedding::size(dim));
    embedding of_all(prompt_tokens, all), of_prompt(prompt_tokens, first);
    session.reset();
    session.use_layers(layer);
    match::pool_states(session, ids, prompt_tokens, of_all, &of_prompt, model::no_delta{}, threads);
    session.use_layers(0);
    if (!whole.empty()) space.place(all, whole);
    space.place(first, embedding::known(dim, prompt_tokens), prompt);
  }
};

}  // namespace crayon::engine
