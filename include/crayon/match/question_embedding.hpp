// SPDX-License-Identifier: MIT
// What a model makes of a question: wider than f(x), which has only the states of one layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <crayon/core/config.hpp>

namespace crayon::match {

/// Parts of equal length that a question's embedding has.
inline constexpr std::size_t question_parts = 3;

/// The mean of the last states over a question's tokens, the last state, and the mean after the
/// first block, where words still stand for themselves: (3 dim), of natural length. The first token
/// (BOS) is the same everywhere and left out; a question without others gives zeros. `session` is
/// `model::llama_session` or alike (reset, use_layers, for_each_hidden); the tokens have passed its
/// `check`, and it is reset afterwards. `more`: a delta and an executor, if wanted.
template <class Session, class... More>
void embed_question(Session& session, std::span<const std::int32_t> tokens, std::span<float> f,
                    More&&... more) {
  const std::size_t dim = f.size() / question_parts;
  CRAYON_ASSERT(dim * question_parts == f.size());
  for (float& x : f) x = 0;
  if (tokens.size() < 2) return;
  const auto share = static_cast<float>(tokens.size() - 1);
  const auto add_mean = [&](std::span<float> to, std::span<const float> state) {
    for (std::size_t j = 0; j < dim; ++j) to[j] += state[j] / share;
  };
  session.reset();
  session.for_each_hidden(
      tokens,
      [&](std::size_t i, std::span<const float> state) {
        if (i == 0) return;
        add_mean(f.first(dim), state);
        if (i + 1 == tokens.size()) {
          for (std::size_t j = 0; j < dim; ++j) f[dim + j] = state[j];
        }
      },
      more...);
  session.reset();
  session.use_layers(1);
  session.for_each_hidden(
      tokens,
      [&](std::size_t i, std::span<const float> state) {
        if (i != 0) add_mean(f.subspan(2 * dim), state);
      },
      more...);
  session.reset();
  session.use_layers(0);
}

}  // namespace crayon::match
