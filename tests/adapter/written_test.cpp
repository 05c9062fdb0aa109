// SPDX-License-Identifier: MIT
// Blends as directories that PEFT reads. fixtures/check_written.py loads what is in
// fixtures/written into PEFT and compares logits; this test sees that crayon still writes the same.
#include <crayon/adapter/peft.hpp>

#include <cstdlib>
#include <string>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/common_info.hpp>
#include <crayon/blend/concat.hpp>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_adapter.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

/// One PEFT directory of several, by the exact blend.
result<void> blend_directories(const std::vector<std::string>& from,
                               const std::vector<weighted_slot>& weights, const std::string& to) {
  std::vector<adapter::peft_adapter<float>> loaded;
  std::vector<const adapter::peft_info*> infos;
  std::vector<adapter::lora_adapter<float>> adapters;
  for (const auto& directory : from) {
    CRAYON_TRY(auto one, adapter::load_peft<float>(directory));
    loaded.push_back(std::move(one));
  }
  for (auto& one : loaded) {
    infos.push_back(&one.info);
    adapters.push_back(std::move(one.adapter));
  }
  CRAYON_TRY(auto info, adapter::common_info(infos, from));
  CRAYON_TRY(const auto set, adapter::adapter_set<float>::build(std::move(adapters), from));
  CRAYON_TRY(const auto blended, blend::concat::blend(set, weights));
  return adapter::save_peft(to, blended, info);
}

}  // namespace

TEST_CASE("blends for PEFT are the bytes that PEFT was shown to read") {
  const std::string fixtures = CRAYON_FIXTURES "/";
  const scratch dir;
  const bool write = std::getenv("CRAYON_WRITE_FIXTURES") != nullptr;
  struct example {
    std::string name, first, second;
  };
  for (const auto& [name, first, second] :
       {example{"llama-bias", "llama-patterns", "llama-bias"},
        example{"llama-embedding", "llama-embedding", "llama-rslora-bf16"},
        example{"gpt2", "gpt2-conv1d", "gpt2-wte-f16"}}) {
    INFO(name);
    const std::string to = write ? fixtures + "written/" + name : dir / name;
    REQUIRE(blend_directories({fixtures + first, fixtures + second}, {{0, 0.5F}, {1, -1.25F}}, to));
    for (const char* file : {"/adapter_config.json", "/adapter_model.safetensors"}) {
      CHECK(get(to + file) == get(fixtures + "written/" + name + file));
    }
  }
}

TEST_CASE("real adapters blend, are saved and come back bit by bit") {
  const std::string root = data_path("adapters");
  if (root.empty()) {
    WARN("skipped: no CRAYON_DATA");
    return;
  }
  const scratch dir;
  for (const char* name : {"gpt2-clm-r8", "gptneox-f16-r1", "roberta-modules-to-save"}) {
    INFO(name);
    const std::string real = root + "/" + name;
    const auto first = adapter::load_peft<float>(real);
    REQUIRE(first);
    // Another one for the same base, of another rank at every other site.
    std::vector<adapter::site_shape> shapes;
    for (std::size_t i = 0; i < first->adapter.size(); i += 2) {
      shapes.push_back(first->adapter.shape(i));
      shapes.back().rank = 1 + i % 3;
    }
    rng random(11);
    const auto other = random_adapter<float>(shapes, random);
    REQUIRE(adapter::save_peft(dir / "other", other, first->info));
    REQUIRE(blend_directories({real, dir / "other"}, {{0, 0.5F}, {1, -2.0F}}, dir / "sum"));
    const auto sum = adapter::load_peft<float>(dir / "sum");
    REQUIRE(sum);
    CHECK(sum->info.saved == first->info.saved);
    CHECK(sum->info.base_model == first->info.base_model);
    CHECK(sum->adapter.size() == first->adapter.size());
    const auto f = sum->adapter.factors(0), x = first->adapter.factors(0), y = other.factors(0);
    auto want = delta(x, 0.5);
    add_delta(want, y, -2.0);
    CHECK(distance(delta(f), want) <= 1e-6 * norm(want));
    REQUIRE(adapter::save_peft(dir / "again", sum->adapter, sum->info));
    for (const char* file : {"/adapter_config.json", "/adapter_model.safetensors"}) {
      CHECK(get((dir / "again") + file) == get((dir / "sum") + file));
    }
  }
}

TEST_CASE("real adapters of different base models do not blend") {
  const std::string root = data_path("adapters");
  if (root.empty()) {
    WARN("skipped: no CRAYON_DATA");
    return;
  }
  const scratch dir;
  CHECK(blend_directories({root + "/gpt2-clm-r8", root + "/gptneox-f16-r1"}, {{0, 1.0F}, {1, 1.0F}},
                          dir / "x")
            .error()
            .text == root +
                         "/gptneox-f16-r1: base_model_name_or_path is "
                         "\"cyberagent/open-calm-1b\", " +
                         root + "/gpt2-clm-r8 has \"gpt2\"");
}
