// SPDX-License-Identifier: MIT
#include <cstdio>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/engine/open.hpp>

int main() {
  auto device = crayon::engine::open("device", "device/tokenizer.bin");
  const auto pool = crayon::adapter::load_pool<float>("pool.safetensors");
  if (!device || !pool) return 1;
  const std::vector<crayon::engine::sample> mine = {{"Add 5 days to 8 December.", "December 13"},
                                                    {"The sum of six and four?", "X"}};
  const auto made = device->customize(*pool, mine);  // weights over the pool, no training
  for (const char* question : {"Add 4 days to 11 May.", "What is nine plus seven?"}) {
    if (const auto answer = device->answer(question)) std::puts(answer->text.c_str());
  }
}
