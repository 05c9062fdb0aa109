// SPDX-License-Identifier: MIT
// A Llama model from whatever it is stored as.
#pragma once

#include <sys/stat.h>

#include <string>

#include <crayon/model/hf_llama.hpp>
#include <crayon/model/llama2c.hpp>

namespace crayon::model {

/// A directory is read as transformers', a file as llama2.c's.
template <element E>
[[nodiscard]] result<llama_weights<E>> load_llama(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    return read_hf_llama<E>(path);
  }
  return read_llama2c<E>(path);
}

}  // namespace crayon::model
