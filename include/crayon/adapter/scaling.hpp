// SPDX-License-Identifier: MIT
// The one place where rank and alpha become the scale of dW = scale * B A.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/module_pattern.hpp>
#include <crayon/core/result.hpp>

namespace crayon::adapter {

/// alpha / rank (Hu et al. 2021), or alpha / sqrt(rank) with rsLoRA (Kalajdzievski 2023).
[[nodiscard]] inline float lora_scale(double alpha, std::size_t rank, bool rslora) noexcept {
  const auto r = static_cast<double>(rank);
  return static_cast<float>(alpha / (rslora ? std::sqrt(r) : r));
}

/// Rank and scale of one site.
struct site_scaling {
  std::size_t rank = 0;
  double alpha = 0;
  float scale = 0;
};

/// What an adapter's configuration says about rank and scale, as in PEFT's LoraConfig: the first
/// pattern that matches a module's name replaces `rank` or `alpha` there.
struct scaling_rule {
  std::size_t rank = 8;
  double alpha = 8;
  bool rslora = false;
  std::vector<std::pair<std::string, std::size_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;

  /// `module` is the name in the base model. A pattern that is not understood is an error.
  [[nodiscard]] result<site_scaling> at(std::string_view module) const {
    site_scaling s{rank, alpha, 0};
    CRAYON_CHECK(apply("rank_pattern", rank_pattern, module, s.rank));
    CRAYON_CHECK(apply("alpha_pattern", alpha_pattern, module, s.alpha));
    if (s.rank == 0) {
      return error{errc::bad_value, "rank 0 at " + std::string(module)};
    }
    s.scale = lora_scale(s.alpha, s.rank, rslora);
    return s;
  }

 private:
  template <class T>
  static result<void> apply(const char* key,
                            const std::vector<std::pair<std::string, T>>& patterns,
                            std::string_view module, T& value) {
    for (const auto& [pattern, replacement] : patterns) {
      const auto matches = module_pattern::matches(pattern, module);
      if (!matches) {
        return error{matches.error().code, std::string(key) + ": " + matches.error().text};
      }
      if (!*matches) continue;
      value = replacement;
      break;
    }
    return {};
  }
};

}  // namespace crayon::adapter
