// SPDX-License-Identifier: MIT
// Several PEFT directories whose adapters may be blended.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/common_info.hpp>
#include <crayon/adapter/peft.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>

namespace crayon::adapter {

template <element E>
struct peft_set {
  adapter_set<E> adapters;
  peft_info info;  ///< of a blend of them: what `save_peft` takes
};

/// Loads the directories in their order. Errors: those of `load_peft`, `common_info` and
/// `adapter_set::build`, which name the directories.
template <element E>
[[nodiscard]] result<peft_set<E>> load_peft_set(const std::vector<std::string>& directories) {
  std::vector<lora_adapter<E>> adapters;
  std::vector<peft_info> infos;
  for (const auto& directory : directories) {
    CRAYON_TRY(auto loaded, load_peft<E>(directory));
    adapters.push_back(std::move(loaded.adapter));
    infos.push_back(std::move(loaded.info));
  }
  std::vector<const peft_info*> all;
  for (const auto& info : infos) all.push_back(&info);
  peft_set<E> set;
  CRAYON_TRY(set.info, common_info(all, directories));
  CRAYON_TRY(set.adapters, adapter_set<E>::build(std::move(adapters), directories));
  return set;
}

}  // namespace crayon::adapter
