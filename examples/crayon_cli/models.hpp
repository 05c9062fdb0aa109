// SPDX-License-Identifier: MIT
// Models, tokenizers and adapters as the commands load them: kernels chosen at run time, errors
// that name the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/peft.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/engine/device_engine.hpp>
#include <crayon/model/delta.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/model/llama_weights.hpp>
#include <crayon/model/saved_weights.hpp>
#include <crayon/model/stored_llama.hpp>
#include <crayon/router/rules.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/tokenizer/llama2c_tokenizer.hpp>

#include "cli.hpp"

namespace crayon::cli {

using backend = simd::highway_dynamic;
using weights = model::llama_weights<float>;
using session = model::llama_session<backend, float>;
using stored_model = model::stored_llama;
/// Of the weights `w`, whatever type they have.
template <class Weights>
using session_of = model::llama_session<backend, typename Weights::element_type>;
using delta = model::lora_delta<backend, float>;
using tokenizer::llama2c_tokenizer;

/// The engine of `ask` and `serve`.
struct config : engine::default_config {
  using backend = cli::backend;
  using router = crayon::router::rules;
  using executor = thread_pool;
};
using device = engine::device_engine<config>;

/// A llama2.c checkpoint or a Hugging Face directory, in the type that it is stored in.
[[nodiscard]] result<stored_model> load_model(const std::string& path);

/// The same as f32, which the engines of `ask` and `serve` run.
[[nodiscard]] result<weights> load_widened(const std::string& path);

/// The tokenizer of a model; its vocabulary must be the model's.
[[nodiscard]] result<llama2c_tokenizer> load_tokenizer(const model_options& options,
                                                       const model::llama_config& config);

/// "DIR" or "DIR:number"; without a number it is 1.
struct adapter_argument {
  std::string directory;
  float scale = 1;
};
[[nodiscard]] adapter_argument parse_adapter_argument(const std::string& text);

/// Loads a PEFT directory; refuses one that was made for other weights than `base_hash`, or that
/// comes with weights that the model does not have.
template <element E>
[[nodiscard]] result<adapter::peft_adapter<float>> load_adapter(
    const std::string& directory, const model::llama_weights<E>& model,
    const std::string& base_hash) {
  CRAYON_TRY(auto loaded, adapter::load_peft<float>(directory));
  if (!loaded.info.base_hash.empty() && loaded.info.base_hash != base_hash) {
    return error{errc::mismatch, directory + ": made for a base model with hash " +
                                     loaded.info.base_hash + ", this model has " + base_hash};
  }
  CRAYON_CHECK(model::check_saved(model, directory, loaded.info.saved));
  return loaded;
}

/// Model and tokenizer as an engine, with the adapters' sum in use and room for `context` tokens.
[[nodiscard]] result<device> open_device(const model_options& options,
                                         const std::vector<std::string>& adapters,
                                         std::size_t context = 0);

/// Adapters from disk, bound to a model as one sum. Not movable once bound: the delta refers to
/// the factors.
class loaded_adapters {
 public:
  explicit loaded_adapters(const model::llama_config& config) : delta_(config) {}
  loaded_adapters(const loaded_adapters&) = delete;
  loaded_adapters& operator=(const loaded_adapters&) = delete;

  /// `arguments` as `parse_adapter_argument` takes them; made for `model`, or they are refused.
  [[nodiscard]] result<void> add(const std::vector<std::string>& arguments,
                                 const stored_model& model);

  [[nodiscard]] const cli::delta& delta() const noexcept { return delta_; }

 private:
  cli::delta delta_;
  std::deque<adapter::peft_adapter<float>> adapters_;
};

}  // namespace crayon::cli

// Compiled once, in models.cpp.
extern template class crayon::engine::device_engine<crayon::cli::config>;
