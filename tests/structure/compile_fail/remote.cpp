// SPDX-License-Identifier: MIT
// expect: constraint
// expect: complete
#include <crayon/concepts.hpp>

template <crayon::remote R>
struct engine {};

struct echo {
#ifdef CRAYON_BAD
  static std::string complete(std::string_view prompt, const crayon::generation_options&,
                              crayon::piece_sink) {
    return std::string(prompt);
  }
#else
  static crayon::remote_answer complete(std::string_view prompt, const crayon::generation_options&,
                                        crayon::piece_sink) {
    crayon::remote_answer answer;
    answer.text = prompt;
    return answer;
  }
#endif
};

engine<echo> e;
