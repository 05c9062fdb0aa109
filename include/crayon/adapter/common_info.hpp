// SPDX-License-Identifier: MIT
// What the files of several adapters must agree in before the adapters are blended.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <crayon/adapter/peft_config.hpp>
#include <crayon/core/result.hpp>

namespace crayon::adapter {

/// The information of a blend of these adapters. Refuses, naming two adapters and what differs:
/// different base models (by hash where both have one, else by name), fan_in_fan_out that differs,
/// saved modules that are not equal byte by byte: no weighting of factors can mix those. What is
/// empty is unknown and agrees with anything. `names` names the adapters in errors.
[[nodiscard]] inline result<peft_info> common_info(std::span<const peft_info* const> infos,
                                                   std::span<const std::string> names) {
  CRAYON_ASSERT(infos.size() == names.size());
  if (infos.empty()) return error{errc::bad_value, "a blend of no adapters"};
  peft_info common = *infos[0];
  const auto refuse = [&](std::size_t k, const std::string& text) {
    return error{errc::mismatch, names[k] + ": " + text};
  };
  std::size_t first_hash = 0, first_name = 0;  // the adapters that the values of `common` are from
  for (std::size_t k = 1; k < infos.size(); ++k) {
    const peft_info& info = *infos[k];
    if (common.base_hash.empty()) common.base_hash = info.base_hash, first_hash = k;
    if (common.base_model.empty()) common.base_model = info.base_model, first_name = k;
    const bool hashes = !info.base_hash.empty();
    if (hashes && info.base_hash != common.base_hash) {
      return refuse(k, "made for a base model with hash " + info.base_hash + ", " +
                           names[first_hash] + " for one with " + common.base_hash);
    }
    const bool same_hash = hashes && !infos[first_name]->base_hash.empty();
    if (!same_hash && !info.base_model.empty() && info.base_model != common.base_model) {
      return refuse(k, "base_model_name_or_path is \"" + info.base_model + "\", " +
                           names[first_name] + " has \"" + common.base_model + "\"");
    }
    if (info.fan_in_fan_out != common.fan_in_fan_out) {
      return refuse(k, std::string("fan_in_fan_out is ") +
                           (info.fan_in_fan_out ? "true" : "false") + ", " + names[0] +
                           " has the opposite");
    }
    if (const std::string what = difference(info.saved, common.saved); !what.empty()) {
      return refuse(k, "saved module " + what + ", " + names[0] +
                           ": modules_to_save cannot be blended unless they are equal");
    }
    for (const auto& t : info.saved) {  // a weight of the base that the others do not have
      if (std::find(common.saved.begin(), common.saved.end(), t) == common.saved.end()) {
        common.saved.push_back(t);
      }
    }
    if (info.stored != common.stored) common.stored = dtype::f32;
    if (info.task_type != common.task_type) common.task_type.clear();
    for (const auto& m : info.modules_to_save) {
      auto& list = common.modules_to_save;
      if (std::find(list.begin(), list.end(), m) == list.end()) list.push_back(m);
    }
  }
  return common;
}

}  // namespace crayon::adapter
