// SPDX-License-Identifier: MIT
// expect: constraint
// expect: uses_errors
#include <crayon/match/embedding.hpp>

template <crayon::embedding_policy F>
struct engine {};

struct last_token {
  static constexpr std::string_view name() { return "last_token"; }
#ifndef CRAYON_BAD
  static constexpr bool uses_errors = false;
#endif
  static constexpr std::size_t size(std::size_t dim) {
    return dim;
  }
  static constexpr std::size_t known(std::size_t dim, std::size_t) {
    return dim;
  }
  last_token(std::size_t, std::span<float> memory) : f(memory) {}
  void add(std::size_t, std::span<const float> hidden) {
    for (std::size_t j = 0; j < f.size(); ++j) f[j] = hidden[j];
  }
  void finish() {
    crayon::match::normalise(f);
  }

  std::span<float> f;
};

engine<last_token> e;
