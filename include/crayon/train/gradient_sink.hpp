// SPDX-License-Identifier: MIT
// Which gradients a backward pass computes.
#pragma once

namespace crayon::train {

/// Where gradients are added to. Null: that part is frozen; matrices and norms go together, and
/// with all three null there is no backward pass.
struct gradient_sink {
  float* matrices = nullptr;  ///< laid out as llama_weights::matrices()
  float* norms = nullptr;     ///< as llama_weights::norms()
  float* factors = nullptr;   ///< as lora_factors::values()
  float* gates = nullptr;     ///< (sequences of the whole batch, N): w_i d loss / d w_i

  [[nodiscard]] bool frozen() const noexcept {
    return matrices == nullptr && norms == nullptr && factors == nullptr;
  }
};

}  // namespace crayon::train
