// SPDX-License-Identifier: MIT
#include <cstdio>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/engine/open.hpp>

int main() {
  auto device = crayon::engine::open("assets/device", "assets/device/tokenizer.bin");
  const auto pool = crayon::adapter::load_pool<float>("assets/pool.safetensors");
  if (!device || !pool) return 1;
  const std::vector<crayon::engine::sample> mine = {{"12 March", "12.03."}, {"2 May", "02.05."}};
  const auto made = device->customize(*pool, mine);  // weights over the pool, no training
  const auto answer = device->answer("24 July");
  if (made && answer) std::puts(answer->text.c_str());
}
