// SPDX-License-Identifier: MIT
#include "models.hpp"

#include <sys/stat.h>

#include <charconv>
#include <cmath>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/io/directory.hpp>
#include <crayon/io/file.hpp>
#include <crayon/model/load_llama.hpp>

namespace crayon::cli {
namespace {

bool is_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// "ad:nan" is a number to a parser, and an answer of nothing but <unk> to a model.
result<adapter_argument> finite_argument(const std::string& text) {
  adapter_argument a = parse_adapter_argument(text);
  if (std::isfinite(a.scale)) return a;
  return error{errc::bad_value, "--adapter " + text + ": the scale is not a finite number"};
}

}  // namespace

result<void> check_output_file(const std::string& path) {
  if (!path.empty()) CRAYON_CHECK(io::atomic_file::create(path));
  return {};
}

result<void> check_output_directory(const std::string& path) {
  if (!path.empty()) CRAYON_CHECK(io::directory_writer::create(path));
  return {};
}

result<stored_model> load_model(const std::string& path) {
  return stored_model::load(path);
}

result<weights> load_widened(const std::string& path) {
  return model::load_llama<float>(path);
}

result<llama2c_tokenizer> load_tokenizer(const model_options& options,
                                         const model::llama_config& config) {
  std::string path = options.tokenizer;
  if (path.empty()) {
    const std::size_t slash = options.model.rfind('/');
    const std::string folder = is_directory(options.model)  ? options.model + "/"
                               : slash == std::string::npos ? std::string()
                                                            : options.model.substr(0, slash + 1);
    path = folder + "tokenizer.bin";
  }
  CRAYON_TRY(auto tokens, llama2c_tokenizer::load(path, config.vocab));
  if (!is_directory(options.model)) tokens.end_texts_with(tokens.bos());  // as llama2.c trains
  return tokens;
}

adapter_argument parse_adapter_argument(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || is_directory(text)) return {text, 1};
  float scale = 1;
  const char* last = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, last, scale);
  if (parsed.ec != std::errc{} || parsed.ptr != last) return {text, 1};
  return {text.substr(0, colon), scale};
}

result<device> open_device(const model_options& options, const std::vector<std::string>& adapters,
                           std::size_t context) {
  CRAYON_TRY(weights model, load_widened(options.model));
  CRAYON_TRY(llama2c_tokenizer tokens, load_tokenizer(options, model.config()));
  auto opened =
      device::make(std::move(model), std::move(tokens), std::make_shared<thread_pool>(), context);
  if (!opened) return error{opened.error().code, options.model + ": " + opened.error().text};
  device made = *std::move(opened);
  if (adapters.empty()) return made;
  std::vector<adapter::lora_adapter<float>> loaded;
  std::vector<weighted_slot> slots;
  for (const auto& text : adapters) {
    CRAYON_TRY(const adapter_argument a, finite_argument(text));
    CRAYON_TRY(auto one, load_adapter(a.directory, made.base().weights, made.base().hash));
    slots.push_back({loaded.size(), a.scale});
    loaded.push_back(std::move(one.adapter));
  }
  const bool as_it_is = loaded.size() == 1 && slots[0].weight == 1;
  adapter::lora_adapter<float> sum;
  if (as_it_is) {
    sum = std::move(loaded[0]);
  } else {
    CRAYON_TRY(const auto set, adapter::adapter_set<float>::build(std::move(loaded), adapters));
    CRAYON_TRY(sum, blend::concat::blend(set, slots));
  }
  if (const auto used = made.use(std::move(sum)); !used) {
    return error{used.error().code, adapters[0] + ": " + used.error().text};
  }
  return made;
}

result<void> loaded_adapters::add(const std::vector<std::string>& arguments,
                                  const stored_model& model) {
  if (arguments.empty()) return {};
  const std::string hash = model.hash();
  for (const auto& argument : arguments) {
    CRAYON_TRY(const adapter_argument a, finite_argument(argument));
    CRAYON_TRY(auto loaded, model.visit([&](const auto& base) {
      return load_adapter(a.directory, base, hash);
    }));
    adapters_.push_back(std::move(loaded));
    const auto bound = delta_.append(adapters_.back().adapter, a.scale);
    if (!bound) return error{bound.error().code, a.directory + ": " + bound.error().text};
  }
  return {};
}

}  // namespace crayon::cli

template class crayon::engine::device_engine<crayon::cli::config>;
