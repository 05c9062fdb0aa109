// SPDX-License-Identifier: MIT
// Weights that an adapter's file has whole, held against those of the model it runs with.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/adapter/saved_tensor.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/tensor.hpp>
#include <crayon/model/llama_weights.hpp>

namespace crayon::model {

/// An adapter runs with a model if the model has the weights that came with the adapter: PEFT saves
/// the base model's own embedding beside factors of an embedding, and modules_to_save are weights
/// that were trained. Errors: a weight that the model does not have, or has in another shape or
/// with other values (as E), because running without it would be another model. `path` names the
/// adapter in them.
template <element E>
[[nodiscard]] result<void> check_saved(const llama_weights<E>& weights, const std::string& path,
                                       std::span<const adapter::saved_tensor> saved) {
  constexpr std::string_view wrapped = ".base_layer";  // PEFT's name for what it adapts
  for (const auto& t : saved) {
    std::string name = t.name;
    if (const auto at = name.find(wrapped); at != std::string::npos) name.erase(at, wrapped.size());
    if (weights.config().tied && name == "lm_head.weight") name = weights.shapes()[0].name;
    const auto& shapes = weights.shapes();
    const auto s = std::find_if(shapes.begin(), shapes.end(),
                                [&](const weight_shape& shape) { return shape.name == name; });
    const auto refuse = [&](const std::string& why) {
      return error{errc::mismatch, path + ": saved module " + describe(t) + " " + why};
    };
    if (s == shapes.end()) return refuse("is no weight of this model, which would run without it");
    const auto check = [&]<element S>(std::span<const S> own) -> result<void> {
      aligned_vector<S> theirs(own.size());
      CRAYON_CHECK(
          io::read_matrix(path, t.view(t.name), matrix_view<S>(theirs.data(), s->rows, s->cols)));
      const auto same = [](S x, S y) { return to_float(x) == to_float(y); };
      if (std::equal(own.begin(), own.end(), theirs.begin(), same)) return {};
      return refuse("has other values than the model's weight, which would run in its place");
    };
    const std::size_t count = s->rows * s->cols;
    CRAYON_CHECK(s->norm ? check(weights.norms().subspan(s->offset, count))
                         : check(weights.matrices().subspan(s->offset, count)));
  }
  return {};
}

}  // namespace crayon::model
