// SPDX-License-Identifier: MIT
#include <cstdio>
#include <vector>

#include <crayon/adapter/peft_set.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/engine/open.hpp>

int main() {
  using namespace crayon;
  const auto two = adapter::load_peft_set<float>({"dates", "numbers"});
  if (!two) return 1;  // two.error().text says which file and why
  const std::vector<weighted_slot> weights = {{0, 0.5F}, {1, 0.5F}};
  const auto sum = blend::concat::blend(two->adapters, weights);  // or recompress, ties, dare, ...
  if (!sum || !adapter::save_peft("both", *sum, two->info)) return 1;

  std::printf("%zu sites of rank %zu\n", sum->size(), sum->shape(0).rank);
  auto device = engine::open("device", "device/tokenizer.bin");
  if (!device || !device->use(*sum)) return 1;
  for (const char* question : {"Add 4 days to 11 May.", "What is nine plus seven?"}) {
    if (const auto answer = device->answer(question)) std::puts(answer->text.c_str());
  }
}
