// SPDX-License-Identifier: MIT
// Pools of real shapes, and the lines that blending them is held against.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <time.h>

#include <crayon/adapter/pool.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/model/llama_config.hpp>

namespace crayon_benchmark {

using namespace crayon;

struct model_shape {
  const char* name;
  std::size_t layers, dim, kv, hidden;
};
inline constexpr model_shape llama_1b{"Llama-3.2-1B", 16, 2048, 512, 8192};
inline constexpr model_shape llama_7b{"Llama-2-7B", 32, 4096, 4096, 11008};

/// All seven projections of all layers.
inline std::vector<adapter::site_shape> sites_of(const model_shape& m, std::size_t rank) {
  model::llama_config c;
  c.dim = m.dim;
  c.hidden = m.hidden;
  c.layers = m.layers;
  c.head_dim = 64;
  c.heads = m.dim / c.head_dim;
  c.kv_heads = m.kv / c.head_dim;
  std::vector<adapter::site_shape> sites;
  for (std::size_t i = 0; i < c.sites(); ++i) {
    const auto p = model::llama_config::projection_of(i);
    sites.push_back({model::llama_config::module(i), c.out(p), c.in(p), rank, 2.0F});
  }
  return sites;
}

/// Numbers in (-0.02, 0.02), the same megabyte again and again: enough that nothing can be left
/// out.
template <element E>
void fill(std::span<E> memory) {
  static const std::vector<E> numbers = [] {
    rng random{1};
    std::vector<E> all(262'139);  // a prime: no two adapters are alike
    for (auto& e : all) e = from_float<E>(0.04F * (random.uniform() - 0.5F));
    return all;
  }();
  for (std::size_t i = 0; i < memory.size(); i += numbers.size()) {
    std::copy_n(numbers.data(), std::min(numbers.size(), memory.size() - i), memory.data() + i);
  }
}

template <element E>
adapter::pool<E> pool_of(std::vector<adapter::site_shape> sites, std::size_t count) {
  auto pool = *adapter::pool<E>::zeros(std::move(sites), count, {}, {});
  for (std::size_t i = 0; i < pool.sites(); ++i) {
    for (auto factor : {pool.a(i), pool.b(i)}) fill(std::span(factor.data, factor.size()));
  }
  return pool;
}

inline std::vector<weighted_slot> weights_of(std::size_t count) {
  std::vector<weighted_slot> weights;
  for (std::size_t k = 0; k < count; ++k) {
    weights.push_back(
        {k, 2.0F * static_cast<float>(k + 1) / static_cast<float>(count * (count + 1))});
  }
  return weights;
}

/// Bytes of one adapter.
template <element E>
std::size_t bytes_of(const adapter::pool<E>& pool) {
  std::size_t count = 0;
  for (const auto& s : pool.shapes()) count += s.rank * (s.in + s.out);
  return count * sizeof(E);
}

/// Reads as many bytes as lie there and nothing else, from eight places at once: from one place a
/// 2.3 GHz Xeon gets 5 to 50 % less.
inline std::uint64_t read(const void* memory, std::size_t bytes) {
  constexpr std::size_t places = 8, words = 8;
  const auto* first = static_cast<const std::uint64_t*>(memory);
  const std::size_t part = bytes / places / 64 * words;
  std::uint64_t sum[words] = {};
  for (std::size_t i = 0; i < part; i += words) {
    for (std::size_t k = 0; k < places; ++k) {
      for (std::size_t j = 0; j < words; ++j) sum[j] |= first[k * part + i + j];
    }
  }
  std::uint64_t all = 0;
  for (const auto s : sum) all |= s;
  return all;
}

/// The pool's memory, each thread its share.
template <element E, class X>
std::uint64_t read(const adapter::pool<E>& pool, X& threads) {
  const auto* memory = reinterpret_cast<const char*>(pool.a(0).data);
  const std::size_t parts = threads.concurrency();
  std::vector<std::uint64_t> sums(parts);
  threads.parallel_for(parts, [&](std::size_t part) {
    const auto [first, last] = part_of(pool.bytes(), part, parts, 4096);
    sums[part] = read(memory + first, last - first);
  });
  std::uint64_t all = 0;
  for (const auto s : sums) all |= s;
  return all;
}

/// Seconds. One thread is timed by its own clock, which stops while others have the core.
inline double now(std::size_t threads) {
  timespec t{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace crayon_benchmark
