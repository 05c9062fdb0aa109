// SPDX-License-Identifier: MIT
// How well a model with an adapter says what a user's samples say.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/engine/sample.hpp>

namespace crayon::engine {

/// Summed -ln p(token) over the completions (EOS included), and their number.
struct loss_sum {
  double nats = 0;
  std::size_t tokens = 0;

  [[nodiscard]] double mean() const noexcept {
    return tokens == 0 ? 0 : nats / static_cast<double>(tokens);
  }
  loss_sum& operator+=(const loss_sum& other) noexcept {
    nats += other.nats;
    tokens += other.tokens;
    return *this;
  }
};

/// Of one sample, by anything with `reset` and `for_each_logits`, such as `model::llama_session`;
/// `more` is a delta and an executor, if wanted. The sample has passed the session's `check`.
template <class Session, class... More>
[[nodiscard]] loss_sum completion_loss(Session& session, const encoded_sample& sample,
                                       More&&... more) {
  loss_sum sum;
  const std::span<const std::int32_t> ids = sample.ids;
  if (ids.size() < 2) return sum;
  session.reset();
  session.for_each_logits(
      ids.first(ids.size() - 1),
      [&](std::size_t i, std::span<const float> logits) {
        if (i + 1 < sample.prompt_tokens) return;
        float top = -INFINITY;
        for (const float x : logits) top = x > top ? x : top;
        double total = 0;
        for (const float x : logits) total += std::exp(double{x} - double{top});
        const float chosen = logits[static_cast<std::size_t>(ids[i + 1])];
        sum.nats += std::log(total) + double{top} - double{chosen};
        ++sum.tokens;
      },
      more...);
  session.reset();
  return sum;
}

/// Of all samples.
template <class Session, class... More>
[[nodiscard]] loss_sum completion_loss(Session& session, std::span<const encoded_sample> samples,
                                       More&&... more) {
  loss_sum sum;
  for (const auto& one : samples) sum += completion_loss(session, one, more...);
  return sum;
}

}  // namespace crayon::engine
