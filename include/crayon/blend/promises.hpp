// SPDX-License-Identifier: MIT
// Which laws of the algebra each policy keeps.
#pragma once

#include <array>
#include <string_view>

namespace crayon::blend {

/// With dW_i = s_i B_i A_i and weights w, to the rounding of the element type. For the sparse
/// policies at densities below 1; at density 1 the core and KnOTS forms of magnitude_prune and dare
/// are `recompress`. Copies: ties and magnitude_prune at densities of at least 1 / rank, because
/// the core of one adapter is diagonal; ties for weights of one sign (a copy that loses the
/// vote is left out, and the sum is not made up for it).
struct promises {
  std::string_view policy;
  bool exact;     ///< dW = sum_i w_i dW_i
  bool one_hot;   ///< w = e_k gives dW_k
  bool copies;    ///< equal adapters with sum w = 1 give that adapter
  bool negation;  ///< w -> -w negates dW; false: negative weights are refused
  bool order;     ///< the order of the adapters in the pool does not matter
  bool gauge;     ///< (B_i G, G^-1 A_i) in place of (B_i, A_i) changes nothing
  bool mixed;     ///< takes adapters whose ranks differ
};

/// Every policy also gives the same bits for any number of threads and the same bytes after saving
/// and loading, takes weights that are listed in any order, and never reads an adapter of weight 0.
/// Each entry, yes or no, is a test (tests/blend/laws_test.cpp).
inline constexpr std::array<promises, 18> promises_of_policies{{
    // clang-format off
    // policy                     exact    one_hot  copies   negation order    gauge    mixed
    {"activations",               true,    true,    true,    true,    true,    true,    true},
    {"concat",                    true,    true,    true,    true,    true,    true,    true},
    {"merge",                     true,    true,    true,    true,    true,    true,    true},
    {"recompress",                false,   true,    true,    true,    true,    true,    true},
    {"linear",                    false,   true,    true,    false,   true,    false,   false},
    {"ties",                      false,   true,    true,    true,    true,    true,    true},
    {"dare",                      false,   true,    false,   true,    false,   true,    true},
    {"dare_ties",                 false,   true,    false,   true,    false,   true,    true},
    {"magnitude_prune",           false,   true,    true,    true,    true,    true,    true},
    {"knots_ties",                false,   true,    false,   true,    true,    true,    true},
    {"knots_dare",                false,   true,    false,   true,    false,   true,    true},
    {"knots_dare_ties",           false,   true,    false,   true,    false,   true,    true},
    {"knots_magnitude_prune",     false,   true,    false,   true,    true,    true,    true},
    {"peft_linear",               false,   true,    false,   true,    true,    false,   false},
    {"peft_ties",                 false,   true,    false,   true,    true,    false,   false},
    {"peft_dare_linear",          false,   true,    false,   true,    false,   false,   false},
    {"peft_dare_ties",            false,   true,    false,   true,    false,   false,   false},
    {"peft_magnitude_prune",      false,   true,    false,   true,    true,    false,   false},
    // clang-format on
}};

/// nullptr: a policy of somebody else.
[[nodiscard]] constexpr const promises* promises_of(std::string_view policy) noexcept {
  for (const promises& p : promises_of_policies) {
    if (p.policy == policy) return &p;
  }
  return nullptr;
}

}  // namespace crayon::blend
