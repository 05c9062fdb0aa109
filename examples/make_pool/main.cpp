// SPDX-License-Identifier: MIT
#include <cstdio>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/engine/open.hpp>
#include <crayon/io/json_lines.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/train/build_pool.hpp>

int main() {
  using namespace crayon;
  auto device = engine::open("device", "device/tokenizer.bin");
  const auto texts = io::read_samples("texts");  // dates.jsonl, numbers.jsonl: a task each
  if (!device || !texts) return 1;
  train::pool_options how;
  how.adapters = 2;
  how.rank = 2;
  how.steps = 150;
  how.users = 4;
  thread_pool threads(2);
  const auto& base = device->base();
  const auto made =
      train::build_pool<simd::highway_dynamic>(base.weights, base.tokens, *texts, how, threads);
  if (!made || !adapter::save_pool("made.safetensors", made->pool)) return 1;

  for (const auto& name : made->pool.info().names) std::puts(name.c_str());
  if (!device->customize(made->pool, {{{"Add 5 days to 8 December.", "December 13"}}})) return 1;
  if (const auto answer = device->answer("Add 4 days to 11 May.")) std::puts(answer->text.c_str());
}
