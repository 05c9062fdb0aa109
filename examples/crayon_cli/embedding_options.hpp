// SPDX-License-Identifier: MIT
// What index vectors are made from.
#pragma once

#include <cstddef>
#include <string>

namespace crayon::cli {

/// Which states stand for a sample, and the space in which they are compared.
struct embedding_options {
  std::string embedding = "error_pooling";
  std::string space = "discriminant";  ///< centre, pca, zca
  std::size_t layer = 0;               ///< 0: the last
  std::size_t directions = 0;          ///< of pca and zca; 0: all
  std::size_t centroids = 1;           ///< of each adapter
  float shrinkage = 0.1F;
};

}  // namespace crayon::cli
