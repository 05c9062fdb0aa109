// SPDX-License-Identifier: MIT
// What all engines of one model share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include <crayon/core/result.hpp>
#include <crayon/model/llama_weights.hpp>

namespace crayon::engine {

/// Tokens that an engine has room for unless it is told: of Llama 3.2 1B their keys and values are
/// 256 MB, of its whole context 8 GB.
inline constexpr std::size_t default_context = 4096;

/// A model, its tokenizer and its identity, shared by all engines that run it.
template <class Config>
struct base_model {
  model::llama_weights<typename Config::element> weights;
  typename Config::tokenizer tokens;
  std::string hash;  ///< of the weights: what pools, adapters and routers are bound to

  /// How many tokens an engine has room for that was asked for so many; 0: the model's context, at
  /// most `default_context`. Errors: more than the model's context.
  [[nodiscard]] result<std::size_t> context(std::size_t asked) const {
    const std::size_t most = weights.config().context;
    if (asked > most) {
      return error{errc::bad_value, "a context of " + std::to_string(asked) +
                                        " tokens, the model's is " + std::to_string(most)};
    }
    return asked == 0 ? std::min(most, default_context) : asked;
  }
};

}  // namespace crayon::engine
