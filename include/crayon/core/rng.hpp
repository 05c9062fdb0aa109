// SPDX-License-Identifier: MIT
// Random numbers that are the same on every machine, compiler and standard library.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <crayon/core/config.hpp>

namespace crayon {

/// SplitMix64 (Steele, Lea, Flood 2014): 64 bits of state, every seed is good, and streams for
/// different seeds are independent enough for sampling, shuffling and initialisation.
class rng {
 public:
  using result_type = std::uint64_t;

  constexpr explicit rng(std::uint64_t seed) noexcept : state_(seed) {}

  constexpr std::uint64_t operator()() noexcept {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  static constexpr std::uint64_t min() noexcept { return 0; }
  static constexpr std::uint64_t max() noexcept { return ~std::uint64_t{0}; }

  /// Uniform in [0, 1), 24 bits.
  constexpr float uniform() noexcept { return static_cast<float>((*this)() >> 40) * 0x1p-24F; }

  /// Uniform in {0, ..., bound - 1}; the bias is below bound / 2^64.
  constexpr std::size_t below(std::size_t bound) noexcept {
    CRAYON_ASSERT(bound > 0);
    return static_cast<std::size_t>((*this)() % bound);
  }

  /// Standard normal (Box-Muller, one of the pair).
  float normal() noexcept {
    const double u = (static_cast<double>((*this)() >> 11) + 1.0) * 0x1p-53;
    const double v = static_cast<double>((*this)() >> 11) * 0x1p-53;
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v));
  }

  /// Fisher-Yates.
  template <class Container>
  void shuffle(Container& items) noexcept {
    for (std::size_t i = items.size(); i > 1; --i) {
      using std::swap;
      swap(items[i - 1], items[below(i)]);
    }
  }

  /// The whole state: `rng{g.state()}` continues where `g` stands.
  [[nodiscard]] constexpr std::uint64_t state() const noexcept { return state_; }

 private:
  std::uint64_t state_;
};

}  // namespace crayon
