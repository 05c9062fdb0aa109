// SPDX-License-Identifier: MIT
// expect: constraint
// expect: parallel_for
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>

template <crayon::executor X>
struct engine {};

struct threads : crayon::serial_executor {
#ifdef CRAYON_BAD
  void parallel_for(std::size_t count) const;
#endif
};

engine<threads> e;
