// SPDX-License-Identifier: MIT
// A device engine from files.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include <crayon/engine/device_engine.hpp>
#include <crayon/model/load_llama.hpp>

namespace crayon::engine {

/// `model`: a llama2.c checkpoint, whose texts end with BOS, or a transformers directory;
/// `tokenizer`: what Config::tokenizer loads; `context`: see `base_model::context`. Errors name the
/// file.
template <class Config = default_config>
[[nodiscard]] result<device_engine<Config>> open(
    const std::string& model, const std::string& tokenizer,
    std::shared_ptr<typename Config::executor> threads =
        std::make_shared<typename Config::executor>(),
    std::size_t context = 0) {
  CRAYON_TRY(auto weights, model::load_llama<typename Config::element>(model));
  CRAYON_TRY(auto tokens, Config::tokenizer::load(tokenizer, weights.config().vocab));
  if constexpr (requires { tokens.end_texts_with(tokens.bos()); }) {
    if (!model::is_model_directory(model)) tokens.end_texts_with(tokens.bos());
  }
  auto made = device_engine<Config>::make(std::move(weights), std::move(tokens), std::move(threads),
                                          context);
  if (!made) return error{made.error().code, model + ": " + made.error().text};
  return made;
}

}  // namespace crayon::engine
