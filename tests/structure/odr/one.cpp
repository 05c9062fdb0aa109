// SPDX-License-Identifier: MIT
#include <everything.hpp>

#include <cstdio>

const char* used_in_two(double& sum);

const char* used_in_one(double& sum) {
  const float x[] = {1, 2, 3};
  sum += crayon::simd::scalar::dot(x, x, 3);
  crayon::model::llama_config config;
  config.layers = 2;
  sum += static_cast<double>(config.sites());
  return crayon::simd::scalar::name().data();
}

int main() {
  double sum = 0;
  const bool same = used_in_one(sum) == used_in_two(sum);
  std::printf("%g %s\n", sum, same ? "one definition" : "two definitions");
  return same && sum == 56 ? 0 : 1;
}
