// SPDX-License-Identifier: MIT
// Prompt tokens -> the tokens that follow.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include <crayon/model/llama.hpp>
#include <crayon/model/sampler.hpp>

namespace crayon::model {

enum class stop_reason : std::uint8_t {
  stop_token,    ///< a stop token was drawn; it is not reported
  limit,         ///< `max_tokens` were drawn
  context_full,  ///< the session has no room for another token
  cancelled,     ///< the callback said so
};

struct stop_conditions {
  std::size_t max_tokens = 256;
  std::span<const std::int32_t> tokens = {};  ///< usually BOS and EOS
};

struct generation {
  std::size_t tokens = 0;  ///< reported to the callback
  stop_reason reason = stop_reason::limit;
};

/// Runs the prompt after what the session has already seen, then draws tokens and calls
/// on_token(id) for each; on_token returns void, or false to stop. A sampler that wraps another one
/// can watch the logits on the way. The last drawn token is not yet part of the session.
/// Errors: an empty prompt, a token id outside the vocabulary, a prompt longer than the context, a
/// token whose logit is not finite (factors too large for the model, for example).
template <class Session, sampler S, class OnToken, adapter_delta D = no_delta,
          executor_reference X = serial_executor>
[[nodiscard]] result<generation> generate(Session& session, std::span<const std::int32_t> prompt,
                                          S& draw, OnToken&& on_token,
                                          const stop_conditions& stop = {}, const D& delta = {},
                                          X&& threads = X{}) {
  if (prompt.empty()) return error{errc::bad_value, "the prompt has no tokens"};
  CRAYON_CHECK(session.check(prompt));
  std::span<float> logits = session.prefill(prompt, delta, threads);
  generation done;
  while (done.tokens < stop.max_tokens) {
    const std::int32_t token = draw(logits);
    if (!std::isfinite(logits[static_cast<std::size_t>(token)])) {
      return error{errc::bad_value,
                   "the logits after " + std::to_string(session.position()) +
                       " tokens are not finite"};
    }
    if (std::find(stop.tokens.begin(), stop.tokens.end(), token) != stop.tokens.end()) {
      done.reason = stop_reason::stop_token;
      return done;
    }
    ++done.tokens;
    if constexpr (std::is_void_v<std::invoke_result_t<OnToken&, std::int32_t>>) {
      on_token(token);
    } else if (!on_token(token)) {
      done.reason = stop_reason::cancelled;
      return done;
    }
    if (done.tokens == stop.max_tokens) break;
    if (session.position() == session.context()) {
      done.reason = stop_reason::context_full;
      return done;
    }
    logits = session.forward(token, delta, threads);
  }
  return done;
}

}  // namespace crayon::model
