// SPDX-License-Identifier: MIT
#include <atomic>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/engine/hot_swap.hpp>
#include <crayon/engine/open.hpp>

int main() {
  using namespace crayon;
  auto device = engine::open("device", "device/tokenizer.bin");
  const auto pool = adapter::load_pool<float>("pool.safetensors");
  if (!device || !pool) return 1;
  const auto live = *engine::hot_swap<simd::scalar, float>::make(device->base().weights.config(),
                                                                 pool->extract(14));  // digits
  device->follow(live);

  // The program goes on answering; each answer has one adapter, from its first token to its last.
  std::atomic<int> answers{0};
  std::atomic<bool> running{true};
  std::thread answering([&] {
    std::string last;
    for (; running; ++answers) {
      const auto answer = device->answer("What is twelve plus seven?");
      if (!answer || answer->text == last) continue;
      std::puts((last = answer->text).c_str());
    }
  });
  // Waits until an answer has begun and ended after now.
  const auto see = [&] {
    for (const int seen = answers; answers < seen + 2;) std::this_thread::yield();
  };
  const auto swap_to = [&](std::size_t slot) {
    const std::vector<weighted_slot> weights = {{slot, 1.0F}};
    const auto swapped =
        live->update([&](auto& idle) { return blend::linear<>::blend_into(*pool, weights, idle); });
    see();
    return bool{swapped};
  };
  see();
  const bool swapped = swap_to(15) && swap_to(16);  // words, Roman
  running = false;
  answering.join();
  return swapped ? 0 : 1;
}
