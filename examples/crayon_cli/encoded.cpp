// SPDX-License-Identifier: MIT
#include "encoded.hpp"

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

}  // namespace crayon::cli
