// SPDX-License-Identifier: MIT
// Samples as token ids and embeddings of the base model.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <crayon/engine/sample.hpp>
#include <crayon/match/embedding.hpp>

#include "models.hpp"
#include "samples.hpp"

namespace crayon::cli {

/// An error where a sample is longer than the model's context; `path` is named in it.
[[nodiscard]] result<std::vector<engine::encoded_sample>> encode_samples(
    const std::vector<sample>& samples, const llama2c_tokenizer& tokens,
    const model::llama_config& config, const std::string& path);

/// (samples, Pooling::size(dim)): what an embedding policy says of each sample, by the model
/// without an adapter, of the states after so many blocks (0: all).
template <class Pooling, element E>
[[nodiscard]] std::vector<float> embed_samples(const model::llama_weights<E>& model,
                                               std::span<const engine::encoded_sample> samples,
                                               thread_pool& threads, std::size_t layer = 0) {
  const std::size_t width = Pooling::size(model.config().dim);
  std::vector<float> rows(samples.size() * width);
  std::size_t longest = 1;
  for (const auto& one : samples) longest = std::max(longest, one.ids.size());
  model::llama_session<backend, E> s(model, longest);
  s.use_layers(layer);
  progress_bar bar("embedding");
  for (std::size_t i = 0; i < samples.size(); ++i) {
    match::embed<Pooling>(s, samples[i].ids, samples[i].prompt_tokens,
                          std::span(rows).subspan(i * width, width), model::no_delta{}, threads);
    bar.show(i + 1, samples.size());
  }
  return rows;
}

}  // namespace crayon::cli
