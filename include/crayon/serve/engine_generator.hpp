// SPDX-License-Identifier: MIT
// A device engine that answers a server's requests, each with its own adapter.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/engine/device_engine.hpp>
#include <crayon/serve/adapter_shelf.hpp>
#include <crayon/serve/generator.hpp>

namespace crayon::serve {

/// What a model thought of the token that was drawn from these logits, and its `count` likeliest.
template <class Tokenizer>
[[nodiscard]] scored_token score_token(const Tokenizer& tokens, std::int32_t token,
                                       std::span<const float> logits, std::size_t count) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(double{x - top});
  const double all = double{top} + std::log(sum);
  const auto score = [&](std::size_t id) {
    return token_score{std::string(tokens.decode(static_cast<std::int32_t>(id))),
                       static_cast<float>(double{logits[id]} - all)};
  };
  scored_token made{score(static_cast<std::size_t>(token)), {}};
  if (count == 0) return made;
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto last = order.begin() + static_cast<std::ptrdiff_t>(std::min(count, order.size()));
  std::partial_sort(order.begin(), last, order.end(), [&](std::size_t a, std::size_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (auto at = order.begin(); at != last; ++at) made.top.push_back(score(*at));
  return made;
}

/// One session; any number of them share a shelf. Nothing of a prompt that was run with one adapter
/// is ever used with another: each request runs its whole prompt.
template <class Config>
class engine_generator {
 public:
  using engine_type = engine::device_engine<Config>;
  using shelf_type = adapter_shelf<typename Config::adapter_element, typename Config::backend>;

  /// Without a shelf all requests have the adapter that the engine has now.
  explicit engine_generator(engine_type device, std::shared_ptr<shelf_type> shelf = nullptr)
      : device_(std::move(device)), shelf_(std::move(shelf)) {
    if (shelf_ != nullptr) device_.use_base();
  }

  /// Puts the request's adapter in use and runs its prompt, so that the answer needs only the rest.
  [[nodiscard]] result<void> check(const generation_request& request) {
    CRAYON_CHECK(put_in_use(request));
    if (const auto begun = device_.begin(request.prompt); !begun) return begun.error();
    return {};
  }

  /// Once after each `check` of the same request.
  [[nodiscard]] result<generation> operator()(const generation_request& request, piece_sink sink) {
    token_log none;
    return (*this)(request, sink, none);
  }
  [[nodiscard]] result<generation> operator()(const generation_request& request, piece_sink sink,
                                              token_log& log) {
    const auto note = [&](std::int32_t token, std::span<const float> logits) {
      if (!request.log_probs) return;
      log.push_back(score_token(device_.base().tokens, token, logits, request.top_log_probs));
    };
    CRAYON_TRY(const auto done, device_.finish(request.options, sink, note));
    const bool whole = done.finished == engine::finish_reason::stop ||
                       done.finished == engine::finish_reason::cancelled;
    return generation{done.prompt_tokens, done.tokens, !whole};
  }

 private:
  [[nodiscard]] result<void> put_in_use(const generation_request& request) {
    if (shelf_ == nullptr) return {};
    typename shelf_type::shared wanted = shelf_->own();
    if (!request.adapter.empty()) {
      CRAYON_TRY(wanted, shelf_->get(request.adapter));
    } else if (!request.blend.empty()) {
      CRAYON_TRY(wanted, shelf_->blend(request.blend));
    }
    if (wanted == in_use_) return {};
    if (wanted == nullptr) {
      device_.use_base();
    } else {
      CRAYON_CHECK(device_.use(wanted));
    }
    in_use_ = std::move(wanted);
    return {};
  }

  engine_type device_;
  std::shared_ptr<shelf_type> shelf_;
  typename shelf_type::shared in_use_;  // null: the base model; meaningless without a shelf
};

}  // namespace crayon::serve
