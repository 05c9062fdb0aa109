// SPDX-License-Identifier: MIT
// A weight matrix of a base model, as a merge writes to it.
#pragma once

#include <string>
#include <string_view>

#include <crayon/core/element.hpp>
#include <crayon/core/view.hpp>

namespace crayon::adapter {

/// The weight that an adapter's site of that name changes. Whoever made `w` owns it.
template <element E>
struct base_matrix {
  std::string module;             ///< as `site_shape` names it; of a bias, "<layer>.bias"
  matrix_view<E> w;               ///< (out, in), or (in, out) where `transposed`
  bool transposed = false;        ///< Conv1D, embedding tables (vocabulary, d), biases (1, out)
  std::string_view refusal = {};  ///< not empty: why nothing can be added here
};

}  // namespace crayon::adapter
