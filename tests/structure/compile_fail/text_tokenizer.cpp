// SPDX-License-Identifier: MIT
// expect: constraint
// expect: encode
#include <crayon/concepts.hpp>

template <crayon::text_tokenizer T>
struct engine {};

struct letters {
  static std::size_t size() { return 128; }
#ifdef CRAYON_BAD
  static std::vector<std::size_t> encode(std::string_view text){
#else
  static std::vector<std::int32_t> encode(std::string_view text) {
#endif
      return {text.begin(), text.end()};
} static std::string_view decode(std::int32_t) {
  return "?";
}
static std::int32_t bos() {
  return 1;
}
static std::int32_t eos() {
  return 2;
}
}
;

engine<letters> e;
