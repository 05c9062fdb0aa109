// SPDX-License-Identifier: MIT
// A blend whose weights differ from site to site.
#pragma once

#include <algorithm>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool_info.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/core/result.hpp>

namespace crayon::blend {

/// One site of a source, as a source of its own. The other source outlives it.
template <factor_source P>
class site_of {
 public:
  using element_type = typename P::element_type;

  site_of(const P& source, std::size_t site) : source_(&source), site_(site) {
    if constexpr (interleaved_source<P>) shapes_ = {source.shapes()[site]};
  }

  [[nodiscard]] std::size_t size() const noexcept { return source_->size(); }
  [[nodiscard]] static constexpr std::size_t sites() noexcept { return 1; }
  [[nodiscard]] std::string_view module(std::size_t) const noexcept {
    return source_->module(site_);
  }
  [[nodiscard]] std::size_t out(std::size_t) const noexcept { return source_->out(site_); }
  [[nodiscard]] std::size_t in(std::size_t) const noexcept { return source_->in(site_); }
  [[nodiscard]] adapter::site_kind kind(std::size_t) const noexcept { return source_->kind(site_); }
  [[nodiscard]] std::size_t rank(std::size_t slot, std::size_t) const noexcept {
    return source_->rank(slot, site_);
  }
  [[nodiscard]] float scale(std::size_t slot, std::size_t) const noexcept {
    return source_->scale(slot, site_);
  }
  void copy_a(std::size_t slot, std::size_t, matrix_view<element_type> to) const {
    source_->copy_a(slot, site_, to);
  }
  void copy_b(std::size_t slot, std::size_t, matrix_view<element_type> to) const {
    source_->copy_b(slot, site_, to);
  }

  // What the source has beside that.
  [[nodiscard]] decltype(auto) info() const requires requires(const P& p) { p.info(); }
  { return source_->info(); }
  [[nodiscard]] decltype(auto) names() const requires requires(const P& p) { p.names(); }
  { return source_->names(); }
  [[nodiscard]] auto factors(std::size_t slot, std::size_t) const requires
      requires(const P& p, std::size_t i) {
    p.factors(i, i);
  }
  { return source_->factors(slot, site_); }
  [[nodiscard]] const std::vector<adapter::site_shape>& shapes() const noexcept requires
      interleaved_source<P> {
    return shapes_;
  }
  [[nodiscard]] std::size_t tile() const noexcept requires interleaved_source<P> {
    return source_->tile();
  }
  [[nodiscard]] auto a(std::size_t) const requires interleaved_source<P> {
    return source_->a(site_);
  }
  [[nodiscard]] auto b(std::size_t) const requires interleaved_source<P> {
    return source_->b(site_);
  }

 private:
  const P* source_;
  std::size_t site_;
  std::vector<adapter::site_shape> shapes_;  // of the one site
};

/// What a policy makes of one site.
template <class Policy, factor_source P>
using blended_site = typename decltype(Policy::blend(
    std::declval<const site_of<P>&>(), std::declval<std::span<const weighted_slot>>()))::value_type;

/// A policy that blends one site at a time into something that can be put together again. All
/// policies here do.
template <class Policy, class P>
concept blends_sites = factor_source<P> && blend_policy<Policy, site_of<P>> &&
    requires(std::vector<blended_site<Policy, P>> sites) {
  { blended_site<Policy, P>::of_sites(std::move(sites)) } -> std::same_as<blended_site<Policy, P>>;
};

namespace detail {

template <factor_source P>
[[nodiscard]] result<void> check_site_weights(const P& pool, matrix_view<const float> weights) {
  if (weights.rows == pool.sites() && weights.cols == pool.size()) return {};
  return error{errc::bad_shape, "weights of " + std::to_string(weights.cols) + " adapters at " +
                                    std::to_string(weights.rows) + " sites, the pool has " +
                                    std::to_string(pool.size()) + " adapters at " +
                                    std::to_string(pool.sites())};
}

/// `use(site, blend of it)`, sites spread over the threads. The first site's error is returned.
template <class Policy, factor_source P, class X, class Use>
[[nodiscard]] result<void> blend_sites(const P& pool, matrix_view<const float> weights, float least,
                                       X& threads, Use&& use) {
  CRAYON_CHECK(check_site_weights(pool, weights));
  std::vector<std::optional<error>> failed(pool.sites());
  std::atomic<std::size_t> next{0};  // sites differ in size
  threads.parallel_for(threads.concurrency(), [&](std::size_t) {
    for (std::size_t i; (i = next.fetch_add(1)) < pool.sites();) {
      const auto slots = slots_of(std::span(weights.row(i), weights.cols), least);
      auto made = Policy::blend(site_of<P>(pool, i), slots);
      const auto done = made ? use(i, *std::move(made)) : result<void>(std::move(made).error());
      if (!done) failed[i] = done.error();
    }
  });
  for (std::size_t i = 0; i < failed.size(); ++i) {
    if (!failed[i]) continue;
    const std::string module(pool.module(i));
    const bool named = failed[i]->text.find(module) != std::string::npos;
    return error{failed[i]->code, named ? failed[i]->text : module + ": " + failed[i]->text};
  }
  return {};
}

/// `to` has more rows or columns, or as many; what `from` has not becomes zero.
template <element E>
void copy_padded(matrix_view<const E> from, matrix_view<E> to) noexcept {
  for (std::size_t r = 0; r < to.rows; ++r) {
    const std::size_t n = r < from.rows ? from.cols : 0;
    if (n > 0) std::copy_n(from.row(r), n, to.row(r));
    std::fill(to.row(r) + n, to.row(r) + to.cols, from_float<E>(0));
  }
}

}  // namespace detail

/// `weights` (sites, N), the pool's sites in their order: every site is blended as `Policy` does it
/// with a row of weights of its own. Weights of a magnitude below `least` are left out where they
/// are so small (`slots_of`). Equal rows give what one row gives for all sites. Sites are spread
/// over the executor's threads; their number does not change a bit. Errors: a matrix of another
/// shape, and those of the policy, of which the first site's is returned.
template <class Policy, factor_source P, executor_reference X = serial_executor>
  requires blends_sites<Policy, P>
[[nodiscard]] result<blended_site<Policy, P>> by_site(const P& pool,
                                                      matrix_view<const float> weights,
                                                      float least = 0, X&& threads = X{}) {
  using made_type = blended_site<Policy, P>;
  std::vector<std::optional<made_type>> made(pool.sites());
  CRAYON_CHECK(detail::blend_sites<Policy>(pool, weights, least, threads,
                                           [&](std::size_t i, made_type&& part) -> result<void> {
                                             made[i] = std::move(part);
                                             return {};
                                           }));
  std::vector<made_type> parts;
  parts.reserve(made.size());
  for (auto& part : made) parts.push_back(*std::move(part));
  return made_type::of_sites(std::move(parts));
}

/// The same into an adapter that is there, such as the one that is not in use of `hot_swap`: the
/// pool's sites in their order, scales as the policy gives them, ranks as large as those of the
/// blend or larger (the rest becomes zeros; `concat` leaves out adapters of weight zero). Fresh
/// memory costs more than the blend: `concat` of 8 adapters of rank 8 on the Llama-3.2-1B shape
/// takes 16 ms into an adapter and 200 into a new one. After an error its content is
/// unspecified.
template <class Policy, factor_source P, executor_reference X = serial_executor>
  requires blends_sites<Policy, P> &&
      std::same_as<blended_site<Policy, P>, adapter::lora_adapter<typename P::element_type>>
[[nodiscard]] result<void> by_site_into(const P& pool, matrix_view<const float> weights,
                                        adapter::lora_adapter<typename P::element_type>& out,
                                        float least = 0, X&& threads = X{}) {
  if (out.size() != pool.sites()) {
    return error{errc::bad_shape, "the adapter to blend into has " + std::to_string(out.size()) +
                                      " sites, the pool " + std::to_string(pool.sites())};
  }
  return detail::blend_sites<Policy>(
      pool, weights, least, threads, [&](std::size_t i, auto&& part) -> result<void> {
        const adapter::site_shape &has = out.shape(i), &needs = part.shape(0);
        if (has.module != needs.module || has.out != needs.out || has.in != needs.in ||
            has.kind != needs.kind || has.scale != needs.scale || has.rank < needs.rank) {
          return error{errc::bad_shape, "the adapter to blend into has " + adapter::describe(has) +
                                            ", needs " + adapter::describe(needs)};
        }
        const auto from = part.factors(0);
        detail::copy_padded(from.a, out.a(i));
        detail::copy_padded(from.b, out.b(i));
        return {};
      });
}

}  // namespace crayon::blend
