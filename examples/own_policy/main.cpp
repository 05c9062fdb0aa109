// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string_view>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/engine/open.hpp>

/// The exact sum of the `Count` adapters of the largest weights, which keep their sum.
template <std::size_t Count>
struct largest {
  static constexpr std::string_view name() { return "largest"; }

  template <crayon::blend::factor_source Pool>
  static auto blend(const Pool& pool, std::span<const crayon::weighted_slot> weights) {
    std::vector<crayon::weighted_slot> kept(weights.begin(), weights.end());
    std::stable_sort(kept.begin(), kept.end(),
                     [](const auto& a, const auto& b) { return a.weight > b.weight; });
    if (kept.size() > Count) kept.resize(Count);
    float all = 0, some = 0;
    for (const auto& w : weights) all += w.weight;
    for (const auto& w : kept) some += w.weight;
    for (auto& w : kept) w.weight *= all / some;
    return crayon::blend::concat::blend(pool, kept);
  }
};
static_assert(crayon::blend_policy<largest<2>, crayon::adapter::pool<float>>);

struct my_config : crayon::engine::default_config {
  using blend = largest<2>;
};

int main() {
  auto device = crayon::engine::open<my_config>("device", "device/tokenizer.bin");
  const auto pool = crayon::adapter::load_pool<float>("pool.safetensors");
  if (!device || !pool) return 1;
  const std::vector<crayon::engine::sample> mine = {{"Add 5 days to 8 December.", "December 13"},
                                                    {"The sum of six and four?", "X"}};
  // The pool was trained with concat; that another policy is meant has to be said.
  const auto made = device->customize(*pool, mine, {.blend = true});
  if (!made) return 1;
  std::printf("rank %zu\n", device->blended()->shape(0).rank);
  for (const char* question : {"Add 4 days to 11 May.", "What is nine plus seven?"}) {
    if (const auto answer = device->answer(question)) std::puts(answer->text.c_str());
  }
}
