// SPDX-License-Identifier: MIT
// Keys and values of the positions seen so far.
#pragma once

#include <cstddef>

#include <crayon/core/aligned.hpp>
#include <crayon/core/config.hpp>
#include <crayon/core/view.hpp>
#include <crayon/model/llama_config.hpp>

namespace crayon::model {

/// f32, stored (layer, key|value, kv_head, context, head_dim): the positions of one head are one
/// contiguous matrix, so that scores are one gemv and their weighted sum is one gemv_t.
class kv_cache {
 public:
  kv_cache() = default;
  kv_cache(const llama_config& config, std::size_t context)
      : kv_heads_(config.kv_heads),
        head_dim_(config.head_dim),
        context_(context),
        memory_(config.layers * 2 * config.kv_heads * context * config.head_dim) {}

  [[nodiscard]] std::size_t context() const noexcept { return context_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.size() * sizeof(float); }

  /// (context, head_dim)
  [[nodiscard]] matrix_view<float> keys(std::size_t layer, std::size_t head) noexcept {
    return at(2 * layer, head);
  }
  /// (context, head_dim)
  [[nodiscard]] matrix_view<float> values(std::size_t layer, std::size_t head) noexcept {
    return at(2 * layer + 1, head);
  }

 private:
  [[nodiscard]] matrix_view<float> at(std::size_t part, std::size_t head) noexcept {
    CRAYON_ASSERT(head < kv_heads_);
    return {memory_.data() + (part * kv_heads_ + head) * context_ * head_dim_, context_, head_dim_};
  }

  std::size_t kv_heads_ = 0;
  std::size_t head_dim_ = 0;
  std::size_t context_ = 0;
  aligned_vector<float> memory_;
};

}  // namespace crayon::model
