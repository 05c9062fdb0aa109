// SPDX-License-Identifier: MIT
// expect: constraint
// expect: generator
#include <crayon/serve/generator.hpp>

template <crayon::serve::generator G>
struct server {};

struct echo {
#ifdef CRAYON_BAD
  std::string operator()(std::string_view prompt) const {
    return std::string(prompt);
  }
#else
  crayon::result<crayon::serve::generation> operator()(
      const crayon::serve::generation_request& request, crayon::piece_sink sink) const {
    sink(request.prompt);
    return crayon::serve::generation{};
  }
#endif
};

server<echo> s;
