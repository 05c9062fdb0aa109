// SPDX-License-Identifier: MIT
// Is a pool used as it was made to be used?
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>

namespace crayon::engine {

/// What may differ from what the pool file says, by name. All false: nothing may.
struct pool_overrides {
  bool base_model = false;
  bool embedding = false;
  bool matcher = false;
  bool blend = false;
};

/// `activations` and `concat` are both the exact sum: one may stand for the other.
[[nodiscard]] constexpr bool same_blend(std::string_view a, std::string_view b) noexcept {
  const auto exact = [](std::string_view name) {
    return name == "activations" || name == "concat";
  };
  return a == b || (exact(a) && exact(b));
}

/// A pool of another base model, another embedding, matcher or blend is refused; what the pool does
/// not record is not checked.
template <class Config, class Pool>
[[nodiscard]] result<void> check_policies(const Pool& pool, std::string_view base_hash,
                                          const pool_overrides& overrides) {
  const auto& info = pool.info();
  const auto refuse = [](std::string_view what, std::string_view made, std::string_view used) {
    std::string text = "the pool was made with the ";
    text.append(what).append(" ").append(made).append(", this engine has ").append(used);
    return error{errc::mismatch, std::move(text)};
  };
  if (!overrides.base_model && !info.base_hash.empty() && info.base_hash != base_hash) {
    return refuse("base model", info.base_hash, base_hash);
  }
  if (!overrides.embedding && !info.embedding.empty() &&
      info.embedding != Config::embedding::name()) {
    return refuse("embedding", info.embedding, Config::embedding::name());
  }
  if (!overrides.matcher && !info.matcher.empty() && info.matcher != Config::matcher::name()) {
    return refuse("matcher", info.matcher, Config::matcher::name());
  }
  if (!overrides.blend && !info.blend.empty() && !same_blend(info.blend, Config::blend::name())) {
    return refuse("blend", info.blend, Config::blend::name());
  }
  return {};
}

/// Index vectors of embeddings that this engine does not make are refused. `dim`: the length of
/// its embeddings; `layers`: the model's blocks.
template <class Pool>
[[nodiscard]] result<void> check_index(const Pool& pool, std::size_t dim, std::size_t layers) {
  const auto& info = pool.info();
  if (info.layer > layers) {
    return error{errc::mismatch, "the pool's embeddings are of layer " +
                                     std::to_string(info.layer) + ", this model has " +
                                     std::to_string(layers)};
  }
  const std::size_t made_for =
      info.projection.empty() ? pool.index().cols / info.centroids : info.centre.size();
  if (made_for != dim) {
    return error{errc::bad_shape, "the pool's index vectors are for embeddings of length " +
                                      std::to_string(made_for) + ", this engine's embeddings " +
                                      std::to_string(dim)};
  }
  return {};
}

}  // namespace crayon::engine
