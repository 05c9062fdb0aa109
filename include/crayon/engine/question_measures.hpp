// SPDX-License-Identifier: MIT
// What an engine measures of a question before it answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/match/domain_space.hpp>
#include <crayon/match/question_embedding.hpp>
#include <crayon/model/delta.hpp>
#include <crayon/router/scope.hpp>
#include <crayon/router/signals.hpp>

namespace crayon::engine {

/// Nats per token of the question (BOS apart) under the model without an adapter; NaN of none. One
/// pass, with logits of every token. The session is reset.
template <class Session, class Threads>
[[nodiscard]] float question_surprise(Session& session, std::span<const std::int32_t> ids,
                                      Threads& threads) {
  if (ids.size() < 2) return router::not_measured;
  double nats = 0;
  session.reset();
  session.for_each_logits(
      ids.first(ids.size() - 1),
      [&](std::size_t i, std::span<const float> logits) {
        const auto at = router::measure<typename Session::backend>(logits);
        nats += double{at.log_sum_exp} - double{logits[static_cast<std::size_t>(ids[i + 1])]};
      },
      model::no_delta{}, threads);
  session.reset();
  return static_cast<float>(nats / static_cast<double>(ids.size() - 1));
}

/// P(domain | question): one pass by the model without an adapter, and one through its first block.
/// The session is reset.
template <class Session, class Threads>
[[nodiscard]] std::vector<float> domain_weights(Session& session, std::span<const std::int32_t> ids,
                                                const match::domain_space& space,
                                                Threads& threads) {
  std::vector<float> f(space.embedding());
  match::embed_question(session, ids, f, model::no_delta{}, threads);
  return space.weights(f);
}

/// Signals of the question that take passes of their own over it: none unless asked for.
struct question_measures {
  bool surprise = false;
  /// For `domain_mismatch`, between a question and the samples of the customization.
  std::shared_ptr<const match::domain_space> domains = nullptr;

  /// The same, if it is for a model whose states have that length.
  [[nodiscard]] result<question_measures> checked(std::size_t dim) const {
    const std::size_t expected = dim * match::question_parts;
    if (!domains || domains->embedding() == expected) return *this;
    return error{errc::mismatch, "the space of domains is for questions of length " +
                                     std::to_string(domains->embedding()) + ", this model's have " +
                                     std::to_string(expected)};
  }

  /// `task`: a `customized_task`, or null: no distance to it is measured.
  template <class Session, class Task, class Threads>
  [[nodiscard]] router::answer_signals measure(Session& session, std::span<const std::int32_t> ids,
                                               const Task* task, Threads& threads) const {
    float distance = router::not_measured, mismatch = router::not_measured;
    if (task != nullptr && Task::needs_embedding) {
      std::vector<float> query(task->width());
      task->embed(session, ids, ids.size(), {}, query, threads);
      distance = task->distance.measure(query, task->weights_of());
    }
    if (task != nullptr && task->domain_space && ids.size() > 1) {  // BOS alone is of no domain
      const auto query = domain_weights(session, ids, *task->domain_space, threads);
      mismatch = router::domain_mismatch(query, task->domains);
    }
    const float nats = surprise ? question_surprise(session, ids, threads) : router::not_measured;
    session.reset();
    return router::answer_signals(distance, mismatch, nats);
  }
};

}  // namespace crayon::engine
