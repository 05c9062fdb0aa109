// SPDX-License-Identifier: MIT
#include <cstdio>

#include <crayon/crayon.hpp>

int main() {
  const float x[] = {1, 2, 3};
  using backend = crayon::simd::scalar;
  std::printf("%s %g\n", std::string(backend::name()).c_str(), double{backend::dot(x, x, 3)});
}
