// SPDX-License-Identifier: MIT
#include <cstdio>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/engine/open.hpp>
#include <crayon/io/json_lines.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/import_pool.hpp>

int main() {
  using namespace crayon;
  auto device = engine::open("device", "device/tokenizer.bin");
  const auto two = adapter::load_peft_set<float>({"dates", "numbers"});
  const auto dates = io::read_samples("texts/dates.jsonl");  // what each of them is for
  const auto numbers = io::read_samples("texts/numbers.jsonl");
  if (!device || !two || !dates || !numbers) return 1;
  const std::vector<std::vector<io::text_sample>> texts = {*dates, *numbers};
  thread_pool threads(2);
  const auto& base = device->base();
  const auto pool =
      train::import_pool<simd::highway_dynamic>(base.weights, base.tokens, *two, texts, threads);
  if (!pool || !adapter::save_pool("imported.safetensors", *pool)) return 1;

  const std::vector<engine::sample> mine = {{"The sum of six and four?", "X"}};
  const auto made = device->customize(*pool, mine);
  if (!made) return 1;
  for (std::size_t i = 0; i < 2; ++i) {
    std::printf("%s %.2f\n", pool->info().names[i].c_str(), double{made->weights[i]});
  }
  if (const auto answer = device->answer("What is nine plus seven?")) {
    std::puts(answer->text.c_str());
  }
}
