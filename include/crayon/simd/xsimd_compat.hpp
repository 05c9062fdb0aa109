// SPDX-License-Identifier: MIT
// What differs between xsimd 8.1 (Debian 12) and current ones.
#pragma once

#include <cstdint>

#include <xsimd/xsimd.hpp>

namespace crayon::simd::xsimd_compat {

template <class Arch>
using floats = xsimd::batch<float, Arch>;
template <class Arch>
using words = xsimd::batch<std::uint32_t, Arch>;

#if XSIMD_VERSION_MAJOR >= 10
template <class Arch>
inline float reduce_add(const floats<Arch>& v) noexcept {
  return xsimd::reduce_add(v);
}
template <class Arch>
inline words<Arch> as_words(const floats<Arch>& v) noexcept {
  return xsimd::bitwise_cast<std::uint32_t>(v);
}
template <class Arch>
inline floats<Arch> as_floats(const words<Arch>& v) noexcept {
  return xsimd::bitwise_cast<float>(v);
}
#else
template <class Arch>
inline float reduce_add(const floats<Arch>& v) noexcept {
  return xsimd::hadd(v);
}
template <class Arch>
inline words<Arch> as_words(const floats<Arch>& v) noexcept {
  return xsimd::bitwise_cast<words<Arch>>(v);
}
template <class Arch>
inline floats<Arch> as_floats(const words<Arch>& v) noexcept {
  return xsimd::bitwise_cast<floats<Arch>>(v);
}
#endif

/// b where either is NaN: since 14.0 that is the first operand's, as in std::max.
template <class Arch>
inline floats<Arch> max(const floats<Arch>& a, const floats<Arch>& b) noexcept {
#if XSIMD_VERSION_MAJOR >= 14
  return xsimd::max(b, a);
#else
  return xsimd::max(a, b);
#endif
}

}  // namespace crayon::simd::xsimd_compat
