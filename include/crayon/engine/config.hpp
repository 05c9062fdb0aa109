// SPDX-License-Identifier: MIT
// The bundle of policies that an engine is made of.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include <crayon/adapter/pool.hpp>
#include <crayon/blend/by_site.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/engine/scope_distance.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/model/sampler.hpp>
#include <crayon/router/any_of.hpp>
#include <crayon/router/confidence.hpp>
#include <crayon/router/decision_points.hpp>
#include <crayon/router/scope.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/tokenizer/llama2c_tokenizer.hpp>

namespace crayon::engine {

/// Derive from it and name what is to be different:
/// `struct my_config : default_config { using backend = crayon::simd::highway_dynamic; };`
struct default_config {
  using backend = crayon::simd::scalar;
  using element = float;          ///< of the model's matrices
  using adapter_element = float;  ///< of the pool and of the blended adapter
  using tokenizer = crayon::tokenizer::llama2c_tokenizer;
  using embedding = crayon::match::error_pooling;
  using matcher = crayon::match::cosine_softmax;
  using blend = crayon::blend::concat;
  using scope_distance = crayon::engine::weight_distance;
  using router = crayon::router::any_of<crayon::router::scope, crayon::router::confidence>;
  using decide_at = crayon::router::decision_points;  ///< when a hybrid engine asks the router
  using sampler = crayon::model::random_sampler;      ///< greedy at temperature 0, the default
  using executor = crayon::serial_executor;
};

/// One weight per adapter, or one per adapter and site where the blend can take them.
template <class C>
concept weighs_adapters =
    crayon::matcher<typename C::matcher> ||
    (site_matcher<typename C::matcher> &&
     blend::blends_sites<typename C::blend, adapter::pool<typename C::adapter_element>>);

/// A bundle that an engine can be made of.
template <class C>
concept engine_config = kernel_backend<typename C::backend> &&
    crayon::element<typename C::element> && crayon::element<typename C::adapter_element> &&
    text_tokenizer<typename C::tokenizer> && embedding_policy<typename C::embedding> &&
    blend_policy<typename C::blend, adapter::pool<typename C::adapter_element>> &&
    weighs_adapters<C> && engine::scope_distance<typename C::scope_distance> &&
    router_policy<typename C::router> && router::decision_schedule<typename C::decide_at> &&
    crayon::sampler<typename C::sampler> && crayon::executor<typename C::executor>;

static_assert(engine_config<default_config>);

/// The bundle's matcher, at the temperature (and the k) that the pool was made for where it has
/// one. A pool that does not name a k leaves the matcher's own.
template <engine_config Config, class Pool>
[[nodiscard]] result<typename Config::matcher> matcher_of(const Pool& pool) {
  using M = typename Config::matcher;
  if constexpr (requires { M::with(pool.info().tau, pool.info().top_k); }) {
    const std::size_t k = pool.info().top_k;
    return M::with(pool.info().tau, k == 0 ? M{}.k : k);
  } else if constexpr (requires { M::with_tau(pool.info().tau); }) {
    return M::with_tau(pool.info().tau);
  } else {
    return M{};
  }
}

/// The bundle's sampler, with those of the options that it knows.
template <engine_config Config>
[[nodiscard]] typename Config::sampler sampler_of(const generation_options& o) {
  using S = typename Config::sampler;
  if constexpr (std::is_constructible_v<S, model::sampling_options, std::uint64_t>) {
    return S(model::sampling_options{o.temperature, o.top_k, o.top_p}, o.seed);
  } else {
    return S{};
  }
}

}  // namespace crayon::engine
