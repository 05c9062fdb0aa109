// SPDX-License-Identifier: MIT
// Samples as token ids and embeddings of the base model.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <crayon/engine/sample.hpp>

#include "models.hpp"
#include "samples.hpp"

namespace crayon::cli {

/// An error where a sample is longer than the model's context; `path` is named in it.
[[nodiscard]] result<std::vector<engine::encoded_sample>> encode_samples(
    const std::vector<sample>& samples, const llama2c_tokenizer& tokens,
    const model::llama_config& config, const std::string& path);

/// (samples, 2 dim), rows of unit length: f(x) of each sample by the model without an adapter.
[[nodiscard]] std::vector<float> embed_samples(const weights& model,
                                               std::span<const engine::encoded_sample> samples,
                                               thread_pool& threads);

}  // namespace crayon::cli
