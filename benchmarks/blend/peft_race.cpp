// SPDX-License-Identifier: MIT
// crayon's side of peft_race.py: adapters from PEFT directories are loaded into a pool, then each
// line on stdin is answered with the milliseconds that one blend took, until it is in use by a
// model (hot_swap).
//
//   crayon_peft_race f32|bf16 THREADS DIRECTORY...
//   linear | peft_linear | concat     a blend with the weights 1/N, 2/N, ... normalised
//   save linear|... DIRECTORY         the last result of that policy, as PEFT loads it
#include <crayon/adapter/peft.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/peft_linear.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/engine/hot_swap.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "shapes.hpp"

namespace {

using namespace crayon;
using backend = simd::highway_dynamic;

int fail(const error& e) {
  std::cerr << e.text << "\n";
  return 1;
}

model::llama_config config_of(const crayon_benchmark::model_shape& m) {
  model::llama_config c;
  c.dim = m.dim;
  c.hidden = m.hidden;
  c.layers = m.layers;
  c.head_dim = 64;
  c.heads = m.dim / c.head_dim;
  c.kv_heads = m.kv / c.head_dim;
  return c;
}

template <element E>
int race(std::size_t thread_count, const std::vector<std::string>& directories) {
  std::vector<adapter::lora_adapter<E>> adapters;
  for (const auto& directory : directories) {
    auto loaded = adapter::load_peft<E>(directory);
    if (!loaded) return fail(loaded.error());
    adapters.push_back(std::move(loaded->adapter));
  }
  const auto pool = adapter::pool<E>::build(adapters, {}, {});
  if (!pool) return fail(pool.error());
  adapters.clear();
  const auto weights = crayon_benchmark::weights_of(pool->size());
  thread_pool threads(thread_count);
  const auto config = config_of(crayon_benchmark::llama_1b);

  blend::factor_workspace<E> workspace;
  const auto make = [&](const std::string& policy, adapter::lora_adapter<E>& idle) -> result<void> {
    if (policy == "concat") {
      return blend::basic_concat<backend>::blend_into(*pool, weights, idle, threads);
    }
    if (policy == "peft_linear") {
      return blend::peft_linear<backend>::blend_into(*pool, weights, idle, workspace, threads);
    }
    return blend::linear<backend>::blend_into(*pool, weights, idle, threads);
  };
  using live_type = engine::hot_swap<backend, E>;
  const auto live_of = [&](std::vector<adapter::site_shape> shapes) {
    return live_type::make(config, adapter::lora_adapter<E>(std::move(shapes)));
  };
  auto joined = live_of(blend::concat::shapes(*pool, weights));
  auto factors = live_of(pool->shapes());
  auto peft_shapes = blend::peft_shapes(*pool, weights, "peft_linear");
  if (!peft_shapes) return fail(peft_shapes.error());
  auto peft = live_of(std::move(*peft_shapes));
  if (!joined || !factors || !peft) return fail({errc::bad_value, "not a model of this shape"});

  std::cout << backend::name() << " " << thread_count << " threads" << std::endl;
  for (std::string word; std::cin >> word;) {
    const bool save = word == "save";
    if (save) std::cin >> word;
    auto& live = word == "concat" ? **joined : word == "peft_linear" ? **peft : **factors;
    if (save) {
      std::string directory;
      std::cin >> directory;
      if (const auto saved = adapter::save_peft(directory, live.pin().adapter(), {}); !saved) {
        return fail(saved.error());
      }
      std::cout << "saved" << std::endl;
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    const auto done = live.update([&](auto& idle) { return make(word, idle); });
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    if (!done) return fail(done.error());
    std::cout << took.count() << std::endl;
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) return 2;
  const std::vector<std::string> directories(arguments + 3, arguments + count);
  const auto threads = static_cast<std::size_t>(std::atoi(arguments[2]));
  return std::string(arguments[1]) == "bf16" ? race<bf16>(threads, directories)
                                             : race<float>(threads, directories);
}
