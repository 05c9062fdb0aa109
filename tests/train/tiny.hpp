// SPDX-License-Identifier: MIT
// A model small enough to be trained in a test.
#pragma once

#include <crayon/model/llama_config.hpp>

namespace crayon::test {

inline const model::llama_config tiny_model{.dim = 32,
                                            .hidden = 48,
                                            .layers = 2,
                                            .heads = 4,
                                            .kv_heads = 2,
                                            .head_dim = 8,
                                            .vocab = 24,
                                            .context = 12};

}  // namespace crayon::test
