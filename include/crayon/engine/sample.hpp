// SPDX-License-Identifier: MIT
// Samples, as engines take them.
#pragma once

#include <crayon/tokenizer/sample.hpp>

namespace crayon::engine {

using tokenizer::encode_prompt;
using tokenizer::encode_sample;
using tokenizer::encoded_sample;
using tokenizer::sample;

}  // namespace crayon::engine
