// SPDX-License-Identifier: MIT
// A pool file of 8 adapters of rank 8 for Llama-3.2-1B in bf16 (90 MB, all seven projections), in
// the file cache: opened, verified, loaded, blended for the first time and again, within budgets,
// and edited. GB/s count the bytes of all factors (N read and one written for a blend).
#include <crayon/adapter/mapped_pool.hpp>
#include <crayon/adapter/pool_edit.hpp>
#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include <benchmark/benchmark.h>

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "../blend/shapes.hpp"

using namespace crayon_benchmark;

namespace {

using adapter::mapped_pool;
using adapter::verification;
using linear = blend::linear<simd::highway_dynamic>;

struct pool_file {
  std::string path;
  adapter::pool<bf16> pool = pool_of<bf16>(sites_of(llama_1b, 8), 8);

  pool_file() {
    const char* directory = std::getenv("TMPDIR");
    path = std::string(directory != nullptr ? directory : "/tmp") + "/crayon-benchmark-" +
           std::to_string(::getpid()) + ".safetensors";
    if (!adapter::save_pool(path, pool, {1, {}})) std::abort();
  }
  ~pool_file() { ::unlink(path.c_str()); }
};

const pool_file& file() {
  static const pool_file made;
  return made;
}

void set_rate(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

void open_mapped(benchmark::State& state, verification verify) {
  const std::string& path = file().path;  // written before the clock starts
  for (auto _ : state) {
    const auto mapped = mapped_pool<bf16>::open(path, verify);
    if (!mapped) state.SkipWithError("refused");
  }
  if (verify == verification::at_open) set_rate(state, file().pool.bytes());
}

void load(benchmark::State& state) {
  const std::string& path = file().path;
  for (auto _ : state) {
    const auto loaded = adapter::load_pool<bf16>(path);
    if (!loaded) state.SkipWithError("refused");
  }
  set_rate(state, file().pool.bytes());
}

void first_blend(benchmark::State& state) {
  const auto weights = weights_of(8);
  adapter::lora_adapter<bf16> out(file().pool.shapes());
  for (auto _ : state) {
    const auto mapped = mapped_pool<bf16>::open(file().path, verification::by_caller);
    if (!mapped || !linear::blend_into(*mapped, weights, out)) state.SkipWithError("refused");
  }
  set_rate(state, file().pool.bytes() + bytes_of(file().pool));
}

void blend_again(benchmark::State& state, const auto& pool) {
  const auto weights = weights_of(8);
  adapter::lora_adapter<bf16> out(file().pool.shapes());
  for (auto _ : state) {
    if (!linear::blend_into(pool, weights, out)) state.SkipWithError("refused");
  }
  set_rate(state, file().pool.bytes() + bytes_of(file().pool));
}

/// `part` of the pool may stay in memory.
template <class R>
void blend_within(benchmark::State& state, double part) {
  const auto budget = static_cast<std::size_t>(part * static_cast<double>(file().pool.bytes()));
  const auto mapped = mapped_pool<bf16, R>::open(file().path, verification::by_caller, R(budget));
  if (!mapped) {
    state.SkipWithError("refused");
    return;
  }
  blend_again(state, *mapped);
}

void replace(benchmark::State& state) {
  const auto one = file().pool.extract(3);
  for (auto _ : state) {
    if (!adapter::replace_adapter<bf16>(file().path, {one, "adapter-3"}, {0, false})) {
      state.SkipWithError("refused");
    }
  }
  set_rate(state, bytes_of(file().pool));
}

/// The last adapter goes and comes back: both write the file anew.
void remove_and_add(benchmark::State& state) {
  const auto one = file().pool.extract(7);
  for (auto _ : state) {
    if (!adapter::remove_adapter(file().path, "adapter-7", {0, false}) ||
        !adapter::add_adapter<bf16>(file().path, {one, "adapter-7"}, {0, false})) {
      state.SkipWithError("refused");
    }
  }
  set_rate(state, 2 * file().pool.bytes());
}

[[maybe_unused]] const bool registered = [] {
  const auto add = [](const char* name, auto run) {
    benchmark::RegisterBenchmark(name, run)->Unit(benchmark::kMillisecond);
  };
  add("pool/open", [](benchmark::State& s) { open_mapped(s, verification::by_caller); });
  add("pool/open_and_verify", [](benchmark::State& s) { open_mapped(s, verification::at_open); });
  add("pool/load", load);
  add("pool/open_and_blend", first_blend);
  add("pool/blend_mapped", [](benchmark::State& s) {
    const auto mapped = mapped_pool<bf16>::open(file().path, verification::by_caller);
    mapped ? blend_again(s, *mapped) : s.SkipWithError("refused");
  });
  add("pool/blend_in_memory", [](benchmark::State& s) { blend_again(s, file().pool); });
  add("pool/blend_lru_half", [](benchmark::State& s) { blend_within<adapter::lru>(s, 0.5); });
  add("pool/blend_pinned_half", [](benchmark::State& s) { blend_within<adapter::pinned>(s, 0.5); });
  add("pool/replace", replace);
  add("pool/remove_and_add", remove_and_add);
  return true;
}();

}  // namespace
