// SPDX-License-Identifier: MIT
// A Llama model from whatever it is stored as.
#pragma once

#include <sys/stat.h>

#include <string>

#include <crayon/model/hf_llama.hpp>
#include <crayon/model/llama2c.hpp>

namespace crayon::model {

/// Whether a path is a directory: the model of a path that is not is a llama2.c checkpoint.
[[nodiscard]] inline bool is_model_directory(const std::string& path) noexcept {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// A directory is read as transformers', a file as llama2.c's.
template <element E>
[[nodiscard]] result<llama_weights<E>> load_llama(const std::string& path) {
  return is_model_directory(path) ? read_hf_llama<E>(path) : read_llama2c<E>(path);
}

}  // namespace crayon::model
