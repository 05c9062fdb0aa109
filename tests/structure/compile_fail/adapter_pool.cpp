// SPDX-License-Identifier: MIT
// expect: constraint
// expect: index
#include <crayon/concepts.hpp>

template <crayon::adapter_pool P>
struct engine {};

struct pool {
  using element_type = crayon::bf16;
  static std::size_t size() { return 1; }
  static std::size_t sites() { return 0; }
#ifdef CRAYON_BAD
  static std::vector<double> index(std::size_t) {
    return {1};
  }
#else
  static std::vector<float> index(std::size_t) {
    return {1};
  }
#endif
};

engine<pool> e;
