// SPDX-License-Identifier: MIT
// expect: constraint
// expect: remote
#include <crayon/serve/hedged.hpp>

struct echo {
  static crayon::remote_answer complete(std::string_view prompt, const crayon::generation_options&,
                                        crayon::piece_sink) {
    crayon::remote_answer answer;
    answer.text = prompt;
    return answer;
  }
};

struct device {
#ifdef CRAYON_BAD
  static crayon::remote_answer answer(std::string_view, const crayon::generation_options&,
                                      crayon::piece_sink){
#else
  static crayon::remote_answer complete(std::string_view, const crayon::generation_options&,
                                        crayon::piece_sink) {
#endif
      return {};
}
}
;

crayon::serve::hedged<echo, device> two({}, {});
