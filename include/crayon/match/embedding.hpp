// SPDX-License-Identifier: MIT
// f(x): a sample (prompt and completion) as one vector of unit length.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/core/config.hpp>
#include <crayon/core/view.hpp>

namespace crayon::match {

/// v / |v|; a vector of zeros stays as it is.
inline void normalise(std::span<float> v) noexcept {
  double squares = 0;
  for (const float x : v) squares += double{x} * double{x};
  if (squares == 0) return;
  const double scale = 1 / std::sqrt(squares);
  for (float& x : v) x = static_cast<float>(double{x} * scale);
}

/// f(x) = normalise(concat(normalise(mean of h over the prompt), normalise(mean of h over the
/// completion))), h the hidden states after the final norm. The two are pooled apart because a long
/// prompt would otherwise drown the answer, which is what tells users with the same questions
/// apart. A half without tokens is zero, so that queries (prompts alone) compare by their prompts.
class mean_pooling {
 public:
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "mean_pooling"; }

  /// Length of f(x) for hidden states of that length.
  [[nodiscard]] static constexpr std::size_t size(std::size_t dim) noexcept { return 2 * dim; }

  /// `prompt_tokens` of the tokens to come are the prompt; `f` (2 dim) is the result's memory.
  mean_pooling(std::size_t prompt_tokens, std::span<float> f) noexcept
      : prompt_tokens_(prompt_tokens), f_(f) {
    for (float& x : f_) x = 0;
  }

  /// The hidden state (dim) of token i.
  void add(std::size_t i, std::span<const float> hidden) noexcept {
    CRAYON_ASSERT(f_.size() == size(hidden.size()));
    const auto half = f_.subspan(i < prompt_tokens_ ? 0 : hidden.size(), hidden.size());
    for (std::size_t j = 0; j < half.size(); ++j) half[j] += hidden[j];
  }

  /// Normalises; the mean's divisor cancels.
  void finish() noexcept {
    normalise(f_.first(f_.size() / 2));
    normalise(f_.subspan(f_.size() / 2));
    normalise(f_);
  }

 private:
  std::size_t prompt_tokens_;
  std::span<float> f_;
};

/// The same from states that are already there: hidden (tokens, dim) -> f (2 dim).
inline void pool_hidden(matrix_view<const float> hidden, std::size_t prompt_tokens,
                        std::span<float> f) noexcept {
  mean_pooling pooling(prompt_tokens, f);
  for (std::size_t t = 0; t < hidden.rows; ++t) pooling.add(t, {hidden.row(t), hidden.cols});
  pooling.finish();
}

/// Embeds `tokens` (prompt, then completion) with anything that yields hidden states, such as
/// `model::llama_session`: reset() forgets what came before, for_each_hidden(tokens, visit,
/// more...) calls visit(i, state (dim)) for every token. `more` is a delta and an executor, if
/// wanted. The tokens must be valid for the model. f has mean_pooling::size(dim) elements.
template <class Session, class... More>
void embed(Session& session, std::span<const std::int32_t> tokens, std::size_t prompt_tokens,
           std::span<float> f, More&&... more) {
  session.reset();
  mean_pooling pooling(prompt_tokens, f);
  session.for_each_hidden(
      tokens, [&](std::size_t i, std::span<const float> state) { pooling.add(i, state); },
      std::forward<More>(more)...);
  pooling.finish();
}

/// The mean of rows (n, d), n > 0: the centre of a corpus.
[[nodiscard]] inline std::vector<float> mean_of(matrix_view<const float> rows) {
  CRAYON_ASSERT(rows.rows > 0);
  std::vector<double> sum(rows.cols);
  for (std::size_t r = 0; r < rows.rows; ++r) {
    for (std::size_t c = 0; c < rows.cols; ++c) sum[c] += double{rows.row(r)[c]};
  }
  std::vector<float> mean(rows.cols);
  for (std::size_t c = 0; c < rows.cols; ++c) {
    mean[c] = static_cast<float>(sum[c] / static_cast<double>(rows.rows));
  }
  return mean;
}

/// f = normalise(f - centre): hidden states share a large common part that says nothing about the
/// sample, and cosines of what is left spread over the whole range. An empty centre changes
/// nothing.
inline void subtract_centre(std::span<float> f, std::span<const float> centre) noexcept {
  if (centre.empty()) return;
  CRAYON_ASSERT(f.size() == centre.size());
  for (std::size_t j = 0; j < f.size(); ++j) f[j] -= centre[j];
  normalise(f);
}

}  // namespace crayon::match
