// SPDX-License-Identifier: MIT
// The identity of a pool: what a request from elsewhere is bound to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <crayon/adapter/pool_info.hpp>
#include <crayon/core/hash.hpp>

namespace crayon::adapter {

/// Of all that scores and a blend depend on: sites, factors, index vectors, names and policies, in
/// their order. Not of notes, spare slots and R factors. Takes a `pool` or a `mapped_pool`, and
/// reads all of it (striped, 10 GB/s).
template <class P>
[[nodiscard]] std::uint64_t pool_hash(const P& pool) {
  hasher h;
  const auto text = [&](std::string_view t) {
    const std::uint64_t length = t.size();
    h.add(&length, sizeof length);
    h.add(t);
  };
  const auto number = [&](std::uint64_t n) { h.add(&n, sizeof n); };
  const pool_info& info = pool.info();
  for (const auto& t : {info.base_hash, info.embedding, info.matcher, info.blend}) text(t);
  for (const auto& t : info.names) text(t);
  h.add(&info.tau, sizeof info.tau);
  for (const std::size_t n : {info.layer, info.centroids, info.top_k, pool.size()}) number(n);
  const auto index = pool.index();
  number(index.cols);
  h.add(index.data, index.size() * sizeof(float));
  h.add(info.centre.data(), info.centre.size() * sizeof(float));
  h.add(info.projection.data(), info.projection.size() * sizeof(float));

  striped_hasher factors;
  for (std::size_t i = 0; i < pool.sites(); ++i) {
    text(describe(pool.shapes()[i]));
    for (const auto& f : {pool.a(i), pool.b(i)}) {
      for (std::size_t t = 0; t < f.tiles(); ++t) {
        factors.add(f.at(t, 0), pool.size() * f.tile * sizeof(typename P::element_type));
      }
    }
  }
  number(factors.value());
  return h.value();
}

}  // namespace crayon::adapter
