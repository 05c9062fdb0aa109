// SPDX-License-Identifier: MIT
// When a hybrid engine asks its router.
#pragma once

#include <concepts>
#include <cstddef>

namespace crayon::router {

/// Derive and hide what is to be different:
/// `struct my_points : decision_points { static constexpr std::size_t every = 8; };`
struct decision_points {
  static constexpr bool after_prefill = true;  ///< before any token
  static constexpr bool first_token = false;   ///< drawn, and not yet handed on
  static constexpr std::size_t every = 0;      ///< tokens of the answer; 0: not during it
  static constexpr bool after_answer = true;
};

/// After prefill alone: once streaming has begun nothing is taken back.
struct once : decision_points {
  static constexpr bool after_answer = false;
};

template <class P>
concept decision_schedule = requires {
  { P::after_prefill } -> std::convertible_to<bool>;
  { P::first_token } -> std::convertible_to<bool>;
  { P::every } -> std::convertible_to<std::size_t>;
  { P::after_answer } -> std::convertible_to<bool>;
};
static_assert(decision_schedule<decision_points>);

}  // namespace crayon::router
