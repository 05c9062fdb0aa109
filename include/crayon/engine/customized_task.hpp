// SPDX-License-Identifier: MIT
// What an engine remembers of the task it was customized for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/match/domain_space.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/model/delta.hpp>

namespace crayon::engine {

/// The pool's index, and the task's place in it: enough to place a query, without the pool.
template <class Config>
struct customized_task {
  static constexpr bool needs_embedding = Config::scope_distance::needs_embedding;

  typename Config::matcher matcher;
  std::size_t adapters = 0;
  std::vector<float> index;  ///< (N, c d), c centroids of each adapter
  match::index_space space;
  std::size_t layer = 0;  ///< blocks that the embedded states have been through; 0: all
  typename Config::scope_distance distance;
  std::shared_ptr<const match::domain_space> domain_space;  ///< null: no domains are measured
  std::vector<float> domains;                               ///< P(domain) of its samples' questions

  /// Of an embedding in this space, for states of that length.
  [[nodiscard]] std::size_t size(std::size_t dim) const noexcept {
    return space.size(Config::embedding::size(dim));
  }

  /// (N, c d)
  [[nodiscard]] matrix_view<const float> view() const noexcept {
    return {index.data(), adapters, index.size() / adapters};
  }

  /// What embedding and matching need of a pool.
  template <class Pool>
  void remember(const Pool& pool) {
    adapters = pool.size();
    index.assign(pool.index().data, pool.index().data + pool.index().size());
    space = {pool.info().centre, pool.info().projection};
    layer = pool.info().layer;
  }

  /// Embeddings (S, d) -> N weights; refers to this task.
  [[nodiscard]] auto weights_of() const {
    return [this](matrix_view<const float> rows) { return matcher.weights(view(), rows); };
  }

  /// f(x) by the base model, in the pool's space: of the whole sample (unless empty), and of its
  /// prompt as if there were no completion. One pass gives both, as no state depends on later
  /// tokens. The tokens fit the session; `dim`: of its hidden states.
  template <class Session, class Threads>
  void embed(Session& session, std::size_t dim, std::span<const std::int32_t> ids,
             std::size_t prompt_tokens, std::span<float> whole, std::span<float> prompt,
             Threads& threads) const {
    using embedding = typename Config::embedding;
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
