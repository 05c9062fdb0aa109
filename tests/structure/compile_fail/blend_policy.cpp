// SPDX-License-Identifier: MIT
// expect: constraint
// expect: blend
#include <crayon/concepts.hpp>

struct pool {};

template <crayon::blend_policy<pool> B>
struct engine {};

struct average {
  static constexpr std::string_view name() { return "average"; }
#ifdef CRAYON_BAD
  // Policies have no state: blend is static.
  float blend(const pool&, std::span<const crayon::weighted_slot> weights) const {
#else
  static float blend(const pool&, std::span<const crayon::weighted_slot> weights) {
#endif
      return weights[0].weight;
}
}
;

engine<average> e;
