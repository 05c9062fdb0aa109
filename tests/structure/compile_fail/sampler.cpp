// SPDX-License-Identifier: MIT
// expect: constraint
// expect: sampler
#include <crayon/concepts.hpp>

template <crayon::sampler S>
struct engine {};

struct first {
#ifdef CRAYON_BAD
  std::int32_t operator()(std::vector<float>&) const {
    return 0;
  }
#else
  std::int32_t operator()(std::span<float>) const {
    return 0;
  }
#endif
};

engine<first> e;
