// SPDX-License-Identifier: MIT
// The weights of a model that adapters can be merged into.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/base_matrix.hpp>
#include <crayon/model/llama_weights.hpp>

namespace crayon::model {

/// Views of every projection, of the embedding and of the head. They refer to `weights`. A tied
/// head is the embedding, so that a change of the one would change the other as well: both are
/// refused.
template <element E>
[[nodiscard]] std::vector<adapter::base_matrix<E>> base_matrices(llama_weights<E>& weights) {
  constexpr std::string_view end = ".weight";
  constexpr std::string_view tied =
      "the model ties its embedding and its head, a change of one of them cannot be merged";
  std::vector<adapter::base_matrix<E>> matrices;
  for (const weight_shape& s : weights.shapes()) {
    if (s.norm) continue;
    std::string module = s.name.substr(0, s.name.size() - end.size());
    const bool embedding = module == llama_config::embedding_module;
    matrices.push_back({std::move(module),
                        {weights.matrices().data() + s.offset, s.rows, s.cols},
                        embedding,
                        embedding && weights.config().tied ? tied : std::string_view()});
  }
  if (weights.config().tied) {
    matrices.push_back({std::string(llama_config::head_module), matrices[0].w, false, tied});
  }
  return matrices;
}

}  // namespace crayon::model
