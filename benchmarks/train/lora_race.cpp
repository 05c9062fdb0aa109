// SPDX-License-Identifier: MIT
// crayon's side of lora_race.py: a model and an adapter from directories and one batch of ids; each
// line on stdin is answered.
//
//   crayon_lora_race MODEL ADAPTER IDS LENGTH THREADS
//   step      one training step: the milliseconds it took by the clock, those that it kept
//   processors
//             busy, and its loss before the update
//   memory    the most memory that the process has had, in MB
//
// IDS: int32 numbers, sequences of LENGTH tokens; each token but the first is scored.
#include <crayon/adapter/peft.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/model/hf_llama.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/adamw.hpp>
#include <crayon/train/gradient.hpp>

#include <sys/resource.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace crayon;
using backend = simd::highway_dynamic;

int fail(const error& e) {
  std::cerr << e.text << "\n";
  return 1;
}

std::vector<std::int32_t> ids_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<std::int32_t> ids;
  std::array<char, sizeof(std::int32_t)> bytes{};
  while (file.read(bytes.data(), bytes.size())) {
    std::int32_t id = 0;
    __builtin_memcpy(&id, bytes.data(), sizeof id);
    ids.push_back(id);
  }
  return ids;
}

int race(const std::string& model, const std::string& adapter, std::span<const std::int32_t> ids,
         std::size_t length, std::size_t thread_count) {
  auto weights = model::read_hf_llama<float>(model);
  if (!weights) return fail(weights.error());
  auto loaded = adapter::load_peft<float>(adapter);
  if (!loaded) return fail(loaded.error());
  auto factors = train::lora_factors::from(weights->config(), std::span(&loaded->adapter, 1));
  if (!factors) return fail(factors.error());

  train::packed_batch batch;
  batch.clear();
  for (std::size_t at = 0; at + length <= ids.size(); at += length) {
    batch.add(ids.subspan(at, length), 1);
  }
  if (auto fits = batch.check(weights->config()); !fits) return fail(fits.error());
  const std::vector<float> ones(batch.sequences(), 1.0F);
  const matrix_view<const float> one(ones.data(), ones.size(), 1);

  thread_pool threads(thread_count);
  train::batch_gradient<backend> gradient(*weights, &*factors, train::trainable::factors, {},
                                          threads.concurrency());
  const std::array<train::parameter_group, 1> groups{
      train::parameter_group{factors->values(), gradient.factors(), true}};
  train::adamw optimizer;
  std::cout << backend::name() << " " << thread_count << " threads" << std::endl;
  for (std::string word; std::cin >> word;) {
    if (word == "memory") {
      rusage usage{};
      getrusage(RUSAGE_SELF, &usage);
      std::cout << static_cast<double>(usage.ru_maxrss) / 1024 << std::endl;
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t busy = std::clock();
    const auto sum = gradient.compute(batch, one, threads);
    optimizer.step(groups, 1e-3F, train::clip_scale(gradient.norm(), 1), threads);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    const double cpu = 1000 * static_cast<double>(std::clock() - busy) / CLOCKS_PER_SEC;
    std::cout << took.count() << " " << cpu << " "
              << sum.loss / static_cast<double>(batch.loss_rows()) << std::endl;
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 6) return 2;
  const auto number = [&](int i) { return static_cast<std::size_t>(std::atoi(arguments[i])); };
  return race(arguments[1], arguments[2], ids_of(arguments[3]), number(4), number(5));
}
