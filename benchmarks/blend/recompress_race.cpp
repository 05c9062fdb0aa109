// SPDX-License-Identifier: MIT
// recompress_race THREADS OUT W,W,... DIR...: blends PEFT directories to rank 8, writes the result
// and prints the median time of 21 blends and that of the R factors as JSON. For peft_svd.py.
#include <crayon/blend/recompress.hpp>

#include <crayon/adapter/peft.hpp>
#include <crayon/blend/cores.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using namespace crayon;
using backend = simd::highway_dynamic;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

result<void> race(std::size_t thread_count, const std::string& out, std::span<const float> weights,
                  std::span<char*> directories) {
  std::vector<adapter::lora_adapter<float>> adapters;
  adapter::peft_info info;
  for (const char* directory : directories) {
    CRAYON_TRY(auto loaded, adapter::load_peft<float>(directory));
    adapters.push_back(std::move(loaded.adapter));
    info = std::move(loaded.info);
  }
  CRAYON_TRY(const auto pool, adapter::pool<float>::build(adapters, {}, {}));
  thread_pool threads(thread_count);
  const double start = now();
  CRAYON_TRY(const auto cores, blend::compute_cores(pool, threads));
  const double r_factors = now() - start;
  const auto slots = blend::slots_of(weights);
  adapter::lora_adapter<float> made(blend::recompress<backend>::shapes(pool, slots, 8));
  blend::recompress<backend>::workspace<float> work;
  std::vector<double> seconds;
  for (int turn = 0; turn < 22; ++turn) {
    const double before = now();
    CRAYON_CHECK(blend::recompress<backend>::blend_into(pool, slots, cores, made, work, threads));
    if (turn > 0) seconds.push_back(now() - before);  // the first one allocates
  }
  std::nth_element(seconds.begin(), seconds.begin() + 10, seconds.end());
  CRAYON_CHECK(adapter::save_peft(out, made, info));
  std::printf("{\"blend_seconds\": %.9f, \"r_factors_seconds\": %.9f}\n", seconds[10], r_factors);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: recompress_race THREADS OUT W,W,... DIR...\n");
    return 2;
  }
  std::vector<float> weights;
  for (char* text = argv[3]; *text != 0; text += *text == ',') {
    weights.push_back(std::strtof(text, &text));
  }
  const auto done = race(static_cast<std::size_t>(std::atoi(argv[1])), argv[2], weights,
                         std::span(argv + 4, static_cast<std::size_t>(argc - 4)));
  if (done) return 0;
  std::fprintf(stderr, "recompress_race: %s\n", done.error().text.c_str());
  return 1;
}
