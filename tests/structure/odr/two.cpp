// SPDX-License-Identifier: MIT
#include <everything.hpp>

const char* used_in_two(double& sum) {
  const float x[] = {1, 2, 3};
  sum += crayon::simd::scalar::dot(x, x, 3);
  crayon::model::llama_config config;
  config.layers = 2;
  sum += static_cast<double>(config.sites());
  return crayon::simd::scalar::name().data();
}
