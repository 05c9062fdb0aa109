// SPDX-License-Identifier: MIT
// Engines whose matcher weighs each site: `using matcher = crayon::match::arrow`. Needs Eigen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/engine/arrow.hpp>
#include <crayon/engine/base_model.hpp>
#include <crayon/engine/config.hpp>
#include <crayon/engine/customized_task.hpp>
#include <crayon/engine/pool_checks.hpp>
#include <crayon/match/arrow.hpp>
#include <crayon/match/domain_space.hpp>

namespace crayon::engine {

/// The pool's prototypes, and the task's place: enough to place a query, without the factors.
template <class Config>
  requires site_matcher<typename Config::matcher>
struct customized_task<Config> {
  static constexpr bool needs_embedding = Config::scope_distance::needs_embedding;

  typename Config::matcher matcher;
  match::arrow_prototypes prototypes;
  std::vector<std::size_t> where;  ///< of each site of the model, `sites_of`
  typename Config::scope_distance distance;
  std::shared_ptr<const match::domain_space> domain_space;  ///< null: no domains are measured
  std::vector<float> domains;                               ///< P(domain) of its samples' questions

  /// The pool's index where it was made for this matcher, else prototypes of its factors. Errors: a
  /// pool that was made for something else or for another model; sites that are no linear layers.
  template <class Pool>
  [[nodiscard]] result<void> remember(const Pool& pool, const base_model<Config>& base,
                                      const pool_overrides& overrides) {
    CRAYON_TRY(matcher, Config::matcher::with(pool.info().tau, pool.info().top_k));
    CRAYON_CHECK(check_policies<Config>(pool, base.hash, overrides));
    if (pool.info().matcher == Config::matcher::name()) {
      CRAYON_TRY(prototypes, match::arrow_prototypes::from_index(pool.shapes(), pool.index()));
    } else {
      CRAYON_TRY(prototypes, match::arrow_prototypes::of(pool));
    }
    CRAYON_TRY(where, sites_of(base.weights.config(), prototypes));
    return {};
  }

  /// Length of a sample's place: a number per site and adapter.
  [[nodiscard]] std::size_t width() const noexcept {
    return prototypes.sites() * prototypes.size();
  }

  /// Places (S, sites N) -> weights (sites, N), and -> N, their mean over the sites.
  [[nodiscard]] std::vector<float> site_weights_of(matrix_view<const float> rows) const {
    return engine::site_weights_of(rows, prototypes.sites());
  }
  [[nodiscard]] auto weights_of() const {
    return [this](matrix_view<const float> rows) {
      const auto all = site_weights_of(rows);
      return mean_over_sites({all.data(), prototypes.sites(), prototypes.size()});
    };
  }

  /// See `place_by_site`.
  template <class Session, class Threads>
  void embed(Session& session, std::span<const std::int32_t> ids, std::size_t prompt_tokens,
             std::span<float> whole, std::span<float> prompt, Threads& threads) const {
    place_by_site(session, prototypes, matcher, where, ids, prompt_tokens, whole, prompt, threads);
  }
};

}  // namespace crayon::engine
