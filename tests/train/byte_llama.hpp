// SPDX-License-Identifier: MIT
// The model that pools are made for in tests: two layers of 16, on bytes.
#pragma once

#include <crayon/model/llama_config.hpp>
#include <crayon/tokenizer/byte_tokenizer.hpp>

namespace crayon_test {

inline crayon::model::llama_config byte_llama() {
  crayon::model::llama_config c;
  c.dim = 16;
  c.hidden = 24;
  c.layers = 2;
  c.heads = 2;
  c.kv_heads = 1;
  c.head_dim = 8;
  c.vocab = crayon::tokenizer::byte_tokenizer{}.size();
  c.context = 32;
  return c;
}

}  // namespace crayon_test
