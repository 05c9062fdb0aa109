// SPDX-License-Identifier: MIT
// Weights of a pool refined on the user's own samples, without gradients. Needs Eigen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>

#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/engine/completion_loss.hpp>
#include <crayon/match/few_shot_search.hpp>
#include <crayon/model/delta.hpp>
#include <crayon/model/llama.hpp>

namespace crayon::engine {

/// Searches the weights under which the model with the blended adapter says the samples'
/// completions best: nats per token, plus the l1 term. One evaluation is one blend and one pass
/// over the samples. A few samples say little: start from a matcher's weights, and keep the l1 term
/// and the number of evaluations small, or the weights fit the samples and not the user. Errors: a
/// sample that the model cannot take, and those of `match::few_shot_search` and of the blend.
template <kernel_backend B, class Blend, element E, class Pool, class X = serial_executor>
  requires blend_policy<Blend, Pool> && executor_reference<X>
[[nodiscard]] result<match::search_result> few_shot_search(
    const model::llama_weights<E>& weights, const Pool& pool,
    std::span<const encoded_sample> samples, std::span<const float> start,
    const match::search_options& options = {}, X&& threads = X{}) {
  if (start.size() != pool.size()) {
    return error{errc::bad_shape, std::to_string(start.size()) +
                                      " weights to start from, the pool "
                                      "has " +
                                      std::to_string(pool.size()) + " adapters"};
  }
  std::size_t longest = 1;
  for (const auto& one : samples) longest = std::max(longest, one.ids.size());
  if (longest > weights.config().context) {
    return error{errc::bad_value, "a sample of " + std::to_string(longest) +
                                      " tokens, the model's context is " +
                                      std::to_string(weights.config().context)};
  }
  model::llama_session<B, E> session(weights, longest);
  std::size_t completions = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (const auto fits = session.check(samples[i].ids); !fits) {
      return error{fits.error().code, "sample " + std::to_string(i) + ": " + fits.error().text};
    }
    completions += samples[i].ids.size() > std::max<std::size_t>(samples[i].prompt_tokens, 1);
  }
  if (completions == 0) return error{errc::bad_value, "no sample with a completion to search by"};
  return match::few_shot_search(
      start,
      [&](std::span<const float> w) -> result<double> {
        CRAYON_TRY(const auto blended, Blend::blend(pool, blend::slots_of(w)));
        CRAYON_TRY(
            const auto delta,
            (model::lora_delta<B, typename std::decay_t<decltype(blended)>::element_type>::bind(
                weights.config(), blended)));
        return completion_loss(session, samples, delta, threads).mean();
      },
      options);
}

}  // namespace crayon::engine
