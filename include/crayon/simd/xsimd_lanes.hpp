// SPDX-License-Identifier: MIT
// xsimd's batch of f32 as the `V` of the kernels (elementwise-inl.hpp says what that is).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <crayon/core/config.hpp>
#include <crayon/core/element.hpp>
#include <crayon/simd/xsimd_compat.hpp>

namespace crayon::simd {

template <class Arch>
struct xsimd_lanes {
  using vec = xsimd::batch<float, Arch>;

  static constexpr std::size_t width = vec::size;

  // Sums, one row of B and one broadcast element must fit the register file.
  static constexpr bool registers_32 = width == 16 || !XSIMD_WITH_SSE2;
  static constexpr std::size_t gemm_rows = registers_32 ? 8 : 4;
  static constexpr std::size_t gemm_vectors = width >= 8 || registers_32 ? 3 : 2;

  static std::string_view name() noexcept {
    static const auto label = [] {
      std::array<char, 48> text{};
      std::size_t n = 0;
      for (const char* p = "xsimd_static/"; *p != 0; ++p) text[n++] = *p;
      for (const char* p = Arch::name(); *p != 0 && n + 1 < text.size(); ++p) text[n++] = *p;
      return text;
    }();
    return label.data();
  }

  static CRAYON_INLINE vec zero() noexcept { return vec(0.0F); }
  static CRAYON_INLINE vec set(float s) noexcept { return vec(s); }
  static CRAYON_INLINE vec add(vec a, vec b) noexcept { return a + b; }
  static CRAYON_INLINE vec sub(vec a, vec b) noexcept { return a - b; }
  static CRAYON_INLINE vec mul(vec a, vec b) noexcept { return a * b; }
  static CRAYON_INLINE vec div(vec a, vec b) noexcept { return a / b; }
  static CRAYON_INLINE vec max(vec a, vec b) noexcept { return xsimd_compat::max<Arch>(a, b); }
  static CRAYON_INLINE vec min(vec a, vec b) noexcept { return xsimd::min(a, b); }
  static CRAYON_INLINE vec fma(vec a, vec b, vec c) noexcept { return xsimd::fma(a, b, c); }
  static CRAYON_INLINE vec select_less(vec a, vec b, vec yes, vec no) noexcept {
    return xsimd::select(a < b, yes, no);
  }
  static CRAYON_INLINE vec times_power_of_two(vec p, vec shifted) noexcept {
    return xsimd_compat::as_floats<Arch>(xsimd_compat::as_words<Arch>(p) +
                                         (xsimd_compat::as_words<Arch>(shifted) << 23));
  }
  static CRAYON_INLINE bool any_less(vec a, vec b) noexcept { return xsimd::any(a < b); }
  static CRAYON_INLINE float reduce_add(vec v) noexcept {
    return xsimd_compat::reduce_add<Arch>(v);
  }
  static CRAYON_INLINE float reduce_max(vec v) noexcept {
    alignas(64) float lanes[width];
    v.store_aligned(lanes);
    float top = lanes[0];
    for (std::size_t i = 1; i < width; ++i) top = lanes[i] > top ? lanes[i] : top;
    return top;
  }

  static CRAYON_INLINE void store_transposed(vec a, vec b, vec c, vec d, float* to,
                                             std::size_t stride) noexcept {
    alignas(64) float lanes[4][width];
    a.store_aligned(lanes[0]);
    b.store_aligned(lanes[1]);
    c.store_aligned(lanes[2]);
    d.store_aligned(lanes[3]);
    for (std::size_t i = 0; i < width; ++i, to += stride) {
      for (std::size_t j = 0; j < 4; ++j) to[j] = lanes[j][i];
    }
  }

  static constexpr bool has_pairs = false;

  static CRAYON_INLINE vec load(const float* p) noexcept { return vec::load_unaligned(p); }
  static CRAYON_INLINE void store(vec v, float* p) noexcept { v.store_unaligned(p); }

  static CRAYON_INLINE vec load(const bf16* p) noexcept {
#if defined(__AVX512F__)
    if constexpr (width == 16) {
      const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      return vec(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)));
    }
#endif
#if defined(__AVX2__)
    if constexpr (width == 8) {
      const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      return vec(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16)));
    }
#endif
    return load_each(p, width);
  }
  static CRAYON_INLINE vec load(const f16* p) noexcept {
#if defined(__AVX512F__)
    if constexpr (width == 16) {
      return vec(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
    }
#endif
#if defined(__AVX2__) && defined(__F16C__)
    if constexpr (width == 8) {
      return vec(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
#endif
    return load_each(p, width);
  }

  /// Rounds to nearest even.
  static CRAYON_INLINE void store(vec v, bf16* p) noexcept {
    const words halves = round_bf16(v) >> 16;
#if defined(__AVX512F__)
    if constexpr (width == 16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(halves));
      return;
    }
#endif
    alignas(64) std::uint32_t lanes[width];
    halves.store_aligned(lanes);
    for (std::size_t i = 0; i < width; ++i) p[i].bits = static_cast<std::uint16_t>(lanes[i]);
  }
  static CRAYON_INLINE void store(vec v, f16* p) noexcept {
#if defined(__AVX512F__)
    if constexpr (width == 16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                          _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
      return;
    }
#endif
#if defined(__AVX2__) && defined(__F16C__)
    if constexpr (width == 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                       _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
      return;
    }
#endif
    store(v, p, width);
  }

  template <element E>
  static CRAYON_INLINE void load_pair(const E* p, vec& low, vec& high) noexcept {
    low = load(p);
    high = load(p + width);
  }
  template <element E>
  static CRAYON_INLINE void store_pair(vec low, vec high, E* p) noexcept {
    store(low, p);
    store(high, p + width);
  }
  /// Even elements and odd ones: one load and no shuffle for both.
  static CRAYON_INLINE void load_pair(const bf16* p, vec& low, vec& high) noexcept {
    const words both = words::load_unaligned(reinterpret_cast<const std::uint32_t*>(p));
    low = xsimd_compat::as_floats<Arch>(both << 16);
    high = xsimd_compat::as_floats<Arch>(both & words(0xFFFF0000U));
  }
  static CRAYON_INLINE void store_pair(vec low, vec high, bf16* p) noexcept {
    narrow_pair(low, high).store_unaligned(reinterpret_cast<std::uint32_t*>(p));
  }

  /// xsimd 8.1 has no stores past the caches.
  template <class E>
  static constexpr bool streams =
#if defined(__SSE2__)
      !std::is_same_v<E, f16>;
#else
      false;
#endif
  static CRAYON_INLINE void stream_pair([[maybe_unused]] vec low, [[maybe_unused]] vec high,
                                        [[maybe_unused]] float* p) noexcept {
    stream(low, p);
    stream(high, p + width);
  }
  static CRAYON_INLINE void stream_pair(vec low, vec high, bf16* p) noexcept {
    stream(xsimd_compat::as_floats<Arch>(narrow_pair(low, high)), reinterpret_cast<float*>(p));
  }
  static CRAYON_INLINE void end_stream() noexcept {
#if defined(__SSE2__)
    _mm_sfence();
#endif
  }

  static CRAYON_INLINE vec load(const float* p, std::size_t count) noexcept {
    return load_each(p, count);
  }
  static CRAYON_INLINE vec load(const bf16* p, std::size_t count) noexcept {
    return load_each(p, count);
  }
  static CRAYON_INLINE vec load(const f16* p, std::size_t count) noexcept {
    return load_each(p, count);
  }
  template <element E>
  static CRAYON_INLINE void store(vec v, E* p, std::size_t count) noexcept {
    alignas(64) float lanes[width];
    v.store_aligned(lanes);
    for (std::size_t i = 0; i < count; ++i) p[i] = from_float<E>(lanes[i]);
  }

 private:
  using words = xsimd_compat::words<Arch>;

  /// The bf16 is in the upper half of each lane; what is in the lower half does not count.
  static CRAYON_INLINE words round_bf16(vec v) noexcept {
    const words bits = xsimd_compat::as_words<Arch>(v);
    const words rounded = bits + (((bits >> 16) & words(1)) + words(0x7FFFU));
    return xsimd_compat::as_words<Arch>(
        xsimd::select(v == v, xsimd_compat::as_floats<Arch>(rounded),
                      xsimd_compat::as_floats<Arch>(bits | words(0x400000U))));
  }
  static CRAYON_INLINE words narrow_pair(vec low, vec high) noexcept {
    return (round_bf16(low) >> 16) | (round_bf16(high) & words(0xFFFF0000U));
  }
  /// `p` is aligned. The words that v holds go to memory as they are.
  static CRAYON_INLINE void stream(vec v, float* p) noexcept {
#if defined(__AVX512F__)
    if constexpr (width == 16) return _mm512_stream_ps(p, v);
#endif
#if defined(__AVX__)
    if constexpr (width == 8) return _mm256_stream_ps(p, v);
#endif
#if defined(__SSE2__)
    if constexpr (width == 4) return _mm_stream_ps(p, v);
#else
    v.store_unaligned(p);
#endif
  }

  template <element E>
  static CRAYON_INLINE vec load_each(const E* p, std::size_t count) noexcept {
    alignas(64) float lanes[width] = {};
    for (std::size_t i = 0; i < count; ++i) lanes[i] = to_float(p[i]);
    return vec::load_aligned(lanes);
  }
};

}  // namespace crayon::simd
