// SPDX-License-Identifier: MIT
// The demo's models, pool and router: where they are, and how they are made again.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/engine/device_engine.hpp>
#include <crayon/match/embedding.hpp>

#include "../models.hpp"

namespace crayon::demo {

/// Files below one folder. Each model has its tokenizer beside it.
struct assets {
  std::string folder;

  [[nodiscard]] std::string device() const { return folder + "/device"; }
  [[nodiscard]] std::string server() const { return folder + "/server"; }
  [[nodiscard]] std::string pool() const { return folder + "/pool.safetensors"; }
  [[nodiscard]] std::string one_for_all() const { return folder + "/one-for-all"; }
  [[nodiscard]] std::string router() const { return folder + "/router.json"; }
};

/// The device's engine: the pool's embedding sees the model's errors.
struct device_config : cli::config {
  using embedding = match::error_pooling;
  using executor = serial_executor;  // waking a thread costs more than it saves at this size
};
using device_engine = engine::device_engine<device_config>;

/// An existing folder is fine.
[[nodiscard]] result<void> make_folder(const std::string& path);

/// In the order in which they are made: each is made with those before it.
inline constexpr std::array<std::string_view, 5> asset_names{"device", "server", "pool",
                                                             "one-for-all", "router"};

/// Makes the assets again from `seed`, every one or those that `only` names, with the others as
/// they are; tokenizers go with the models. Takes about 25 minutes on two cores for all; the result
/// depends on the instruction set that the kernels run on, not on timing.
[[nodiscard]] result<void> remake(const assets& files, std::uint64_t seed,
                                  const std::vector<std::string>& only, cli::json& report);

}  // namespace crayon::demo
