// SPDX-License-Identifier: MIT
// What thresholds are bound to that were fitted with an engine.
#pragma once

#include <string>
#include <string_view>

#include <crayon/adapter/pool_hash.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/engine/base_model.hpp>
#include <crayon/router/binding.hpp>

namespace crayon::engine {

/// Identity of an adapter: modules, factors and scales.
template <adapter_storage A>
[[nodiscard]] std::string adapter_hash(const A& made) {
  hasher h;
  for (std::size_t i = 0; i < made.size(); ++i) {
    const auto f = made.factors(i);
    h.add(made.module(i));
    h.add(f.a.data, f.a.size() * sizeof(*f.a.data));
    h.add(f.b.data, f.b.size() * sizeof(*f.b.data));
    h.add(&f.scale, sizeof f.scale);
  }
  return h.hex();
}

/// The model without an adapter. The server's name is left to the caller; so is the template, where
/// prompts do not go to the engine as the user wrote them.
template <class Config>
[[nodiscard]] router::binding binding_of(const base_model<Config>& base) {
  const std::string none(router::binding::none);
  return {base.hash,
          std::string(name(dtype_of<typename Config::element>)),
          none,
          none,
          none,
          {},
          none};
}

/// With an adapter that came as it is.
template <class Config, adapter_storage A>
[[nodiscard]] router::binding binding_of(const base_model<Config>& base, const A& adapter) {
  router::binding bound = binding_of(base);
  bound.adapter = adapter_hash(adapter);
  return bound;
}

/// The blend of the bundle over a pool: of one that is "any", for thresholds that were fitted over
/// many users.
template <class Config, class Pool>
[[nodiscard]] std::string blend_of(const Pool& pool) {
  std::string text(Config::blend::name());
  return text.append(" of ").append(hex(adapter::pool_hash(pool)));
}

/// The hash of the text around a prompt, with a mark where the prompt stands.
[[nodiscard]] inline std::string template_hash(std::string_view text) {
  hasher h;
  h.add(text);
  return h.hex();
}

}  // namespace crayon::engine
