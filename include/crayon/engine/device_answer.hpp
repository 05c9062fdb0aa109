// SPDX-License-Identifier: MIT
// What a device engine gives back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <crayon/concepts.hpp>

namespace crayon::engine {

/// What customizing found and what it cost.
struct customization {
  std::vector<float> weights;  ///< one per adapter of the pool
  /// (sites, adapters): of a matcher that weighs each site; `weights` are their mean
  std::vector<float> site_weights;
  double embed_ms = 0;         ///< the base model's pass over the samples, and the matching
  double blend_ms = 0;
};

enum class finish_reason : std::uint8_t {
  stop,
  length,
  deadline,
  cancelled,   ///< from here on: broken off
  handed_over  ///< broken off by who looked at its signals
};

struct device_answer {
  std::string text;
  signals seen{};
  std::size_t prompt_tokens = 0;
  std::size_t tokens = 0;
  finish_reason finished = finish_reason::stop;
  double milliseconds = 0;  ///< from the prompt to the end, without the caller's time in between
};

}  // namespace crayon::engine
