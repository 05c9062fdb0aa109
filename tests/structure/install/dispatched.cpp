// SPDX-License-Identifier: MIT
#include <cstdio>

#include <crayon/crayon.hpp>
#include <crayon/simd/highway_dynamic.hpp>

int main() {
  const float x[] = {1, 2, 3};
  using backend = crayon::simd::highway_dynamic;
  std::printf("%s %g\n", std::string(backend::name()).c_str(), double{backend::dot(x, x, 3)});
}
