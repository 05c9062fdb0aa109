// SPDX-License-Identifier: MIT
#include "encoded.hpp"

#include <crayon/match/embedding.hpp>

#include "cli.hpp"

namespace crayon::cli {

result<std::vector<engine::encoded_sample>> encode_samples(const std::vector<sample>& samples,
                                                           const llama2c_tokenizer& tokens,
                                                           const model::llama_config& config,
                                                           const std::string& path) {
  std::vector<engine::encoded_sample> encoded;
  encoded.reserve(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    encoded.push_back(engine::encode_sample(tokens, {samples[i].prompt, samples[i].completion}));
    if (const std::size_t n = encoded.back().ids.size(); n > config.context) {
      return error{errc::bad_shape, path + ": sample " + std::to_string(i + 1) + " has " +
                                        std::to_string(n) + " tokens, the model's context is " +
                                        std::to_string(config.context)};
    }
  }
  return encoded;
}

std::vector<float> embed_samples(const weights& model,
                                 std::span<const engine::encoded_sample> samples,
                                 thread_pool& threads) {
  const std::size_t width = match::mean_pooling::size(model.config().dim);
  std::vector<float> rows(samples.size() * width);
  session s(model);
  progress_bar bar("embedding");
  for (std::size_t i = 0; i < samples.size(); ++i) {
    match::embed(s, samples[i].ids, samples[i].prompt_tokens,
                 std::span(rows).subspan(i * width, width), model::no_delta{}, threads);
    bar.show(i + 1, samples.size());
  }
  return rows;
}

}  // namespace crayon::cli
