// SPDX-License-Identifier: MIT
// The linear blend of 8 adapters of rank 8 on all seven projections of 8 layers of Llama 3.2 1B,
// from the interleaved pool, in every backend; beside it a raw loop, the same kernels over adapters
// that lie apart, and the bandwidth of reading as many bytes. "bytes" counts 8 adapters read, 1
// written.
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>

#include <crayon/core/rng.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/model/llama_config.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/xsimd_static.hpp>

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

using namespace crayon;

namespace {

constexpr std::size_t count = 8, rank = 8;

std::vector<adapter::site_shape> shapes() {
  model::llama_config c;
  c.dim = 2048;
  c.hidden = 8192;
  c.layers = 8;
  c.heads = 32;
  c.kv_heads = 8;
  c.head_dim = 64;
  std::vector<adapter::site_shape> sites;
  for (std::size_t i = 0; i < c.sites(); ++i) {
    const auto p = model::llama_config::projection_of(i);
    sites.push_back({model::llama_config::module(i), c.out(p), c.in(p), rank, 2.0F});
  }
  return sites;
}

template <element E>
const std::vector<adapter::lora_adapter<E>>& adapters() {
  static const auto made = [] {
    rng random{1};
    std::vector<adapter::lora_adapter<E>> all;
    for (std::size_t k = 0; k < count; ++k) {
      all.emplace_back(shapes());
      for (std::size_t i = 0; i < all[k].size(); ++i) {
        for (auto m : {all[k].a(i), all[k].b(i)}) {
          for (std::size_t j = 0; j < m.size(); ++j) {
            m.data[j] = from_float<E>(random.uniform() - 0.5F);
          }
        }
      }
    }
    return all;
  }();
  return made;
}

template <element E>
const adapter::pool<E>& pool_of(std::size_t tile) {
  static adapter::pool<E> pool;
  if (pool.size() == 0 || pool.tile() != tile) {
    pool = *adapter::pool<E>::build(adapters<E>(), {}, {}, tile);
  }
  return pool;
}

const std::array<float, count> weights{0.3F, 0.05F, 0.1F, 0.2F, 0.05F, 0.1F, 0.15F, 0.05F};

template <element E>
std::size_t bytes() {
  return (count + 1) * adapters<E>()[0].bytes();
}

void set_bytes(benchmark::State& state, std::string_view label, std::size_t size) {
  state.SetLabel(std::string(label));
  using counter = benchmark::Counter;
  state.counters["bytes"] =
      counter(static_cast<double>(size), counter::kIsIterationInvariantRate, counter::kIs1000);
}

/// The line to hold the others against: as many bytes as an f32 blend touches, only read, from as
/// many places at once as a blend reads (one place alone gets half of that on a 2.3 GHz Xeon).
void read(benchmark::State& state) {
  const std::size_t part = bytes<float>() / 8 / count / 8 * 8;  // words
  const aligned_vector<std::uint64_t> memory(part * count, 1);
  for (auto _ : state) {
    std::uint64_t sum[count * 8] = {};
    for (std::size_t i = 0; i < part; i += 8) {
      for (std::size_t k = 0; k < count; ++k) {
        for (std::size_t j = 0; j < 8; ++j) sum[k * 8 + j] |= memory[k * part + i + j];
      }
    }
    benchmark::DoNotOptimize(sum);
  }
  set_bytes(state, "read", memory.size() * 8);
}

template <class B, element E>
void linear(benchmark::State& state) {
  const auto& pool = pool_of<E>(static_cast<std::size_t>(state.range(0)));
  const auto slots = blend::slots_of(weights);
  adapter::lora_adapter<E> out(pool.shapes());
  for (auto _ : state) {
    if (!blend::linear<B>::blend_into(pool, slots, out)) state.SkipWithError("refused");
    benchmark::ClobberMemory();
  }
  set_bytes(state, B::name(), bytes<E>());
}

template <class B, element E>
void linear_threads(benchmark::State& state) {
  const auto& pool = pool_of<E>(adapter::pool<E>::default_tile);
  const auto slots = blend::slots_of(weights);
  adapter::lora_adapter<E> out(pool.shapes());
  thread_pool threads(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    if (!blend::linear<B>::blend_into(pool, slots, out, threads)) state.SkipWithError("refused");
    benchmark::ClobberMemory();
  }
  set_bytes(state, B::name(), bytes<E>());
}

/// What one would write without the library, over the same tiles.
template <element E>
void raw(benchmark::State& state) {
  const auto& pool = pool_of<E>(adapter::pool<E>::default_tile);
  adapter::lora_adapter<E> out(pool.shapes());
  const auto sum = [](adapter::interleaved_view<const E> from, E* CRAYON_RESTRICT to) {
    for (std::size_t t = 0; t < from.tiles(); ++t) {
      const E* CRAYON_RESTRICT rows = from.at(t, 0);
      for (std::size_t j = 0; j < from.length(t); ++j) {
        float total = 0;
        for (std::size_t k = 0; k < count; ++k) {
          total += weights[k] * to_float(rows[k * from.tile + j]);
        }
        to[t * from.tile + j] = from_float<E>(total);
      }
    }
  };
  for (auto _ : state) {
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      sum(pool.a(i), out.a(i).data);
      sum(pool.b(i), out.b(i).data);
    }
    benchmark::ClobberMemory();
  }
  set_bytes(state, "raw loop", bytes<E>());
}

/// The same kernel over adapters that lie apart in memory: what interleaving is worth.
template <class B, element E>
void apart(benchmark::State& state) {
  const auto& all = adapters<E>();
  adapter::lora_adapter<E> out(all[0].shapes());
  std::array<const E*, count> rows;
  const auto sum = [&](auto factor_of, matrix_view<E> to) {
    for (std::size_t k = 0; k < count; ++k) rows[k] = factor_of(all[k]).data;
    B::weighted_sum(weighted_rows<E>{weights.data(), rows.data(), count}, to.data, to.size());
  };
  for (auto _ : state) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      sum([i](const auto& x) { return x.factors(i).a; }, out.a(i));
      sum([i](const auto& x) { return x.factors(i).b; }, out.b(i));
    }
    benchmark::ClobberMemory();
  }
  set_bytes(state, B::name(), bytes<E>());
}

/// The exact blend as one adapter of rank 64: reads 8 adapters and writes 8.
template <element E>
void concat(benchmark::State& state) {
  const auto& pool = pool_of<E>(adapter::pool<E>::default_tile);
  const auto slots = blend::slots_of(weights);
  adapter::lora_adapter<E> out(blend::concat::shapes(pool, slots));
  for (auto _ : state) {
    if (!blend::concat::blend_into(pool, slots, out)) state.SkipWithError("refused");
    benchmark::ClobberMemory();
  }
  set_bytes(state, "concat", 2 * count * adapters<E>()[0].bytes());
}

template <class B>
void add_backend(const std::string& backend) {
  const auto add = [&](const std::string& name, void (*run)(benchmark::State&)) {
    return benchmark::RegisterBenchmark((name + "/" + backend).c_str(), run);
  };
  constexpr auto tile = static_cast<std::int64_t>(adapter::pool<float>::default_tile);
  add("linear/f32", linear<B, float>)->Arg(tile);
  add("linear/bf16", linear<B, bf16>)->Arg(tile);
  add("linear/f16", linear<B, f16>)->Arg(tile);
  if (backend != "highway_dynamic") return;
  add("linear/f32/tile", linear<B, float>)->Arg(64)->Arg(128)->Arg(512)->Arg(1024)->Arg(4096);
  add("linear/bf16/tile", linear<B, bf16>)->Arg(64)->Arg(128)->Arg(512)->Arg(1024)->Arg(4096);
  add("linear/bf16/threads", linear_threads<B, bf16>)->Arg(2)->UseRealTime();
  add("apart/f32", apart<B, float>);
  add("apart/bf16", apart<B, bf16>);
}

BENCHMARK(read);
BENCHMARK(raw<float>)->Name("linear/f32/raw");
BENCHMARK(raw<bf16>)->Name("linear/bf16/raw");
BENCHMARK(concat<bf16>)->Name("concat/bf16");

const bool backends_added = [] {
  add_backend<simd::scalar>("scalar");
  add_backend<simd::xsimd_static<>>("xsimd_static");
  add_backend<simd::highway_static>("highway_static");
  add_backend<simd::highway_dynamic>("highway_dynamic");
  return true;
}();

}  // namespace
