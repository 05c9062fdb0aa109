// SPDX-License-Identifier: MIT
// What an engine remembers of the task it was customized for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/model/delta.hpp>

namespace crayon::engine {

/// The pool's index, and the task's place in it: enough to place a query, without the pool.
template <class Config>
struct customized_task {
  typename Config::matcher matcher;
  std::vector<float> index;   ///< (N, d)
  std::vector<float> centre;  ///< (d), or empty
  typename Config::scope_distance distance;

  /// Embeddings (S, d) -> N weights; refers to this task.
  [[nodiscard]] auto weights_of() const {
    return [this](matrix_view<const float> rows) {
      return matcher.weights({index.data(), index.size() / rows.cols, rows.cols}, rows);
    };
  }

  /// f(x) by the base model, as the index vectors are: of the whole sample (unless empty), and of
  /// its prompt as if there were no completion. One pass gives both, as no state depends on later
  /// tokens. The tokens fit the session.
  template <class Session, class Threads>
  void embed(Session& session, std::span<const std::int32_t> ids, std::size_t prompt_tokens,
             std::span<float> whole, std::span<float> prompt, Threads& threads) const {
    std::vector<float> unused(whole.empty() ? prompt.size() : 0);
    typename Config::embedding of_all(prompt_tokens, whole.empty() ? std::span(unused) : whole);
    typename Config::embedding of_prompt(prompt_tokens, prompt);
    session.reset();
    session.for_each_hidden(
        ids,
        [&](std::size_t i, std::span<const float> state) {
          of_all.add(i, state);
          if (i < prompt_tokens) of_prompt.add(i, state);
        },
        model::no_delta{}, threads);
    session.reset();
    of_all.finish();
    of_prompt.finish();
    if (!whole.empty()) match::subtract_centre(whole, centre);
    if (!centre.empty()) {
      // The centre is a mean over whole samples, in which the prompt has half of the squared
      // length. The half of the completion, which is zero here, stays zero.
      for (std::size_t j = 0; j < prompt.size() / 2; ++j) {
        prompt[j] = prompt[j] * 0.70710678F - centre[j];
      }
      match::normalise(prompt);
    }
  }
};

}  // namespace crayon::engine
