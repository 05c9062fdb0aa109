// SPDX-License-Identifier: MIT
// Highway's vector of f32 as the `V` of the kernels. Included after <hwy/highway.h>, inside the
// namespace of one target between HWY_BEFORE_NAMESPACE and HWY_AFTER_NAMESPACE.

namespace hn = hwy::HWY_NAMESPACE;

template <std::int64_t Target>
struct highway_lanes {
  static_assert(Target == HWY_TARGET, "a static backend runs on the target it is compiled for");
  static_assert(!HWY_HAVE_SCALABLE,
                "tiles need vectors of a fixed size: use highway_dynamic, or -msve-vector-bits");

  using tag = hn::ScalableTag<float>;
  using vec = hn::Vec<tag>;
  using half_tag = hn::Rebind<std::uint16_t, tag>;
  using half_vec = hn::Vec<half_tag>;
  using halves_tag = hn::Repartition<std::uint16_t, tag>;
  using bits_tag = hn::RebindToUnsigned<tag>;
  using bits_vec = hn::Vec<bits_tag>;
  using int_tag = hn::RebindToSigned<tag>;

  static constexpr std::size_t width = HWY_LANES(float);

  // Sums, one row of B and one broadcast element must fit the register file.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
  static constexpr std::size_t gemm_rows = 8, gemm_vectors = 3;  // of 32 registers
#elif HWY_TARGET == HWY_AVX2
  static constexpr std::size_t gemm_rows = 4, gemm_vectors = 3;  // of 16
#elif HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
  // Each lane is code of its own: small tiles keep it compilable, with sanitizers above all.
  static constexpr std::size_t gemm_rows = 2, gemm_vectors = 1;
#else
  static constexpr std::size_t gemm_rows = 4, gemm_vectors = 2;  // of 16, without fma
#endif

  static constexpr auto label = backend_label("highway_static/", HWY_STR(HWY_NAMESPACE));
  static constexpr std::string_view name() noexcept { return label.data(); }

  static CRAYON_INLINE vec zero() noexcept { return hn::Zero(tag{}); }
  static CRAYON_INLINE vec set(float s) noexcept { return hn::Set(tag{}, s); }
  static CRAYON_INLINE vec add(vec a, vec b) noexcept { return hn::Add(a, b); }
  static CRAYON_INLINE vec sub(vec a, vec b) noexcept { return hn::Sub(a, b); }
  static CRAYON_INLINE vec mul(vec a, vec b) noexcept { return hn::Mul(a, b); }
  static CRAYON_INLINE vec div(vec a, vec b) noexcept { return hn::Div(a, b); }
  static CRAYON_INLINE vec min(vec a, vec b) noexcept { return hn::Min(a, b); }
  /// NaN where b is
  static CRAYON_INLINE vec max(vec a, vec b) noexcept {
    constexpr bool emulated = HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128;
    return emulated ? select_less(b, a, a, b) : hn::Max(a, b);
  }
  /// a * b + c
  static CRAYON_INLINE vec fma(vec a, vec b, vec c) noexcept { return hn::MulAdd(a, b, c); }
  /// a < b ? yes : no; no where either is NaN
  static CRAYON_INLINE vec select_less(vec a, vec b, vec yes, vec no) noexcept {
    return hn::IfThenElse(hn::Lt(a, b), yes, no);
  }
  /// p * 2^n for shifted = 1.5 * 2^23 + n, where no exponent leaves its range
  static CRAYON_INLINE vec times_power_of_two(vec p, vec shifted) noexcept {
    const auto power = hn::ShiftLeft<23>(hn::BitCast(bits_tag{}, shifted));
    return hn::BitCast(tag{}, hn::Add(hn::BitCast(bits_tag{}, p), power));
  }
  static CRAYON_INLINE bool any_less(vec a, vec b) noexcept {
    return !hn::AllFalse(tag{}, hn::Lt(a, b));
  }
  static CRAYON_INLINE float reduce_add(vec v) noexcept {
    return hn::GetLane(hn::SumOfLanes(tag{}, v));
  }
  static CRAYON_INLINE float reduce_max(vec v) noexcept {
    return hn::GetLane(hn::MaxOfLanes(tag{}, v));
  }

  /// to[i * stride + 0..3] = a[i], b[i], c[i], d[i] for each lane i
  static CRAYON_INLINE void store_transposed(vec a, vec b, vec c, vec d, float* to,
                                             std::size_t stride) noexcept {
    alignas(64) float lanes[4 * width];
#if HWY_TARGET == HWY_SCALAR
    const vec columns[] = {a, b, c, d};
    for (std::size_t i = 0; i < 4; ++i) hn::Store(columns[i], tag{}, lanes + i);
#else
    const hn::Repartition<double, tag> pairs;
    const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(tag{}, a, b));
    const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(tag{}, a, b));
    const auto cd_low = hn::BitCast(pairs, hn::InterleaveLower(tag{}, c, d));
    const auto cd_high = hn::BitCast(pairs, hn::InterleaveUpper(tag{}, c, d));
    // Blocks of four lanes: block q of the r-th is what lane 4 q + r of a, b, c, d held.
    hn::Store(hn::BitCast(tag{}, hn::InterleaveLower(pairs, ab_low, cd_low)), tag{}, lanes);
    hn::Store(hn::BitCast(tag{}, hn::InterleaveUpper(pairs, ab_low, cd_low)), tag{}, lanes + width);
    hn::Store(hn::BitCast(tag{}, hn::InterleaveLower(pairs, ab_high, cd_high)), tag{},
              lanes + 2 * width);
    hn::Store(hn::BitCast(tag{}, hn::InterleaveUpper(pairs, ab_high, cd_high)), tag{},
              lanes + 3 * width);
#endif
    for (std::size_t i = 0; i < width; ++i, to += stride) {
      __builtin_memcpy(to, lanes + (i % 4) * width + i / 4 * 4, 4 * sizeof(float));
    }
  }

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  static constexpr bool has_pairs = false;
#else
  static constexpr bool has_pairs = true;
  /// p[0], p[1], p[0], p[1], ...
  static CRAYON_INLINE vec set_pair(const float* p) noexcept {
    double both;
    __builtin_memcpy(&both, p, sizeof both);
    return hn::BitCast(tag{}, hn::Set(hn::Repartition<double, tag>{}, both));
  }
  /// a[0] + a[1], a[2] + a[3], ..., then the same of b
  static CRAYON_INLINE vec add_pairs(vec a, vec b) noexcept {
    return hn::ConcatEven(tag{}, hn::Add(b, hn::Shuffle2301(b)), hn::Add(a, hn::Shuffle2301(a)));
  }
#endif

  static CRAYON_INLINE vec load(const float* p) noexcept {
    return hn::LoadU(tag{}, p);
  }
  static CRAYON_INLINE vec load(const bf16* p) noexcept {
    return widen_bf16(load_half(&p->bits));
  }
  static CRAYON_INLINE vec load(const f16* p) noexcept {
    return widen_f16(load_half(&p->bits));
  }
  static CRAYON_INLINE void store(vec v, float* p) noexcept {
    hn::StoreU(v, tag{}, p);
  }
  static CRAYON_INLINE void store(vec v, bf16* p) noexcept {
    hn::StoreU(narrow_bf16(v), half_tag{}, &p->bits);
  }
  static CRAYON_INLINE void store(vec v, f16* p) noexcept {
    hn::StoreU(narrow_f16(v), half_tag{}, &p->bits);
  }

  template <class E>
  static CRAYON_INLINE void load_pair(const E* p, vec& low, vec& high) noexcept {
    low = load(p);
    high = load(p + width);
  }
  template <class E>
  static CRAYON_INLINE void store_pair(vec low, vec high, E* p) noexcept {
    store(low, p);
    store(high, p + width);
  }
#if HWY_TARGET != HWY_SCALAR
  /// Even elements and odd ones: one load and no shuffle for both.
  static CRAYON_INLINE void load_pair(const bf16* p, vec& low, vec& high) noexcept {
    const bits_tag u;
    const auto both = hn::BitCast(u, hn::LoadU(halves_tag{}, &p->bits));
    low = hn::BitCast(tag{}, hn::ShiftLeft<16>(both));
    high = hn::BitCast(tag{}, hn::And(both, hn::Set(u, 0xFFFF0000U)));
  }
  static CRAYON_INLINE void store_pair(vec low, vec high, bf16* p) noexcept {
    hn::StoreU(hn::BitCast(halves_tag{}, narrow_pair(low, high)), halves_tag{}, &p->bits);
  }
#endif

  /// Which elements have a `stream_pair`: stores past the caches to addresses that are aligned.
  template <class E>
  static constexpr bool streams = HWY_TARGET != HWY_SCALAR && !std::is_same_v<E, f16>;
  static CRAYON_INLINE void stream_pair(vec low, vec high, float* p) noexcept {
    hn::Stream(low, tag{}, p);
    hn::Stream(high, tag{}, p + width);
  }
#if HWY_TARGET != HWY_SCALAR
  static CRAYON_INLINE void stream_pair(vec low, vec high, bf16* p) noexcept {
    hn::Stream(hn::BitCast(halves_tag{}, narrow_pair(low, high)), halves_tag{}, &p->bits);
  }
#endif
  /// After the last of them: what reads the memory on another thread then sees it.
  static CRAYON_INLINE void end_stream() noexcept {
    hwy::FlushStream();
  }

  static CRAYON_INLINE vec load(const float* p, std::size_t count) noexcept {
#if HWY_TARGET <= HWY_AVX2
    return hn::MaskedLoad(hn::FirstN(tag{}, count), tag{}, p);
#else
    alignas(64) float lanes[width] = {};
    for (std::size_t i = 0; i < count; ++i) lanes[i] = p[i];
    return hn::Load(tag{}, lanes);
#endif
  }
  static CRAYON_INLINE vec load(const bf16* p, std::size_t count) noexcept {
    return widen_bf16(load_half(&p->bits, count));
  }
  static CRAYON_INLINE vec load(const f16* p, std::size_t count) noexcept {
    return widen_f16(load_half(&p->bits, count));
  }
  static CRAYON_INLINE void store(vec v, float* p, std::size_t count) noexcept {
#if HWY_TARGET <= HWY_AVX2
    hn::BlendedStore(v, hn::FirstN(tag{}, count), tag{}, p);
#else
    alignas(64) float lanes[width];
    hn::Store(v, tag{}, lanes);
    for (std::size_t i = 0; i < count; ++i) p[i] = lanes[i];
#endif
  }
  static CRAYON_INLINE void store(vec v, bf16* p, std::size_t count) noexcept {
    store_half(narrow_bf16(v), &p->bits, count);
  }
  static CRAYON_INLINE void store(vec v, f16* p, std::size_t count) noexcept {
    store_half(narrow_f16(v), &p->bits, count);
  }

 private:
  static CRAYON_INLINE half_vec load_half(const std::uint16_t* p) noexcept {
    return hn::LoadU(half_tag{}, p);
  }
  static CRAYON_INLINE half_vec load_half(const std::uint16_t* p, std::size_t count) noexcept {
#if HWY_TARGET <= HWY_AVX3
    return hn::MaskedLoad(hn::FirstN(half_tag{}, count), half_tag{}, p);
#else
    alignas(64) std::uint16_t lanes[width] = {};
    for (std::size_t i = 0; i < count; ++i) lanes[i] = p[i];
    return hn::Load(half_tag{}, lanes);
#endif
  }
  static CRAYON_INLINE void store_half(half_vec v, std::uint16_t* p, std::size_t count) noexcept {
#if HWY_TARGET <= HWY_AVX3
    hn::BlendedStore(v, hn::FirstN(half_tag{}, count), half_tag{}, p);
#else
    alignas(64) std::uint16_t lanes[width];
    hn::Store(v, half_tag{}, lanes);
    for (std::size_t i = 0; i < count; ++i) p[i] = lanes[i];
#endif
  }
  /// Values below 2^16, so that a saturating conversion from i32 is exact.
  static CRAYON_INLINE half_vec lower_half(bits_vec v) noexcept {
    return hn::DemoteTo(half_tag{}, hn::BitCast(int_tag{}, v));
  }

  static CRAYON_INLINE vec widen_bf16(half_vec v) noexcept {
    return hn::BitCast(tag{}, hn::ShiftLeft<16>(hn::PromoteTo(bits_tag{}, v)));
  }
  /// The bf16 is in the upper half of each lane; what is in the lower half does not count. Rounds
  /// to nearest even; Highway 1.0.3's own conversion truncates.
  static CRAYON_INLINE bits_vec round_bf16(vec v) noexcept {
    const bits_tag u;
    const auto bits = hn::BitCast(u, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u, 1));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(u, 0x7FFFU)));
    const auto number = hn::RebindMask(u, hn::Eq(v, v));
    return hn::IfThenElse(number, rounded, hn::Or(bits, hn::Set(u, 0x400000U)));
  }
  static CRAYON_INLINE half_vec narrow_bf16(vec v) noexcept {
    return lower_half(hn::ShiftRight<16>(round_bf16(v)));
  }
  static CRAYON_INLINE bits_vec narrow_pair(vec low, vec high) noexcept {
    return hn::Or(hn::ShiftRight<16>(round_bf16(low)),
                  hn::And(round_bf16(high), hn::Set(bits_tag{}, 0xFFFF0000U)));
  }

#if HWY_TARGET <= HWY_AVX2
  using f16_tag = hn::Rebind<hwy::float16_t, tag>;

  static CRAYON_INLINE vec widen_f16(half_vec v) noexcept {
    return hn::PromoteTo(tag{}, hn::BitCast(f16_tag{}, v));
  }
  static CRAYON_INLINE half_vec narrow_f16(vec v) noexcept {
    return hn::BitCast(half_tag{}, hn::DemoteTo(f16_tag{}, v));
  }
#else
  // `to_float` and `from_float` of core/element.hpp, lane by lane.
  static CRAYON_INLINE vec widen_f16(half_vec v) noexcept {
    const bits_tag u;
    const auto bits = hn::PromoteTo(u, v);
    const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(u, 0x8000U)));
    const auto magnitude = hn::And(bits, hn::Set(u, 0x7FFFU));
    const auto shifted = hn::ShiftLeft<13>(magnitude);
    const auto normal = hn::Add(shifted, hn::Set(u, 112U << 23));
    const auto special = hn::Or(shifted, hn::Set(u, 0x7F800000U));
    const auto small = hn::BitCast(
        u, hn::Mul(hn::ConvertTo(tag{}, hn::BitCast(int_tag{}, magnitude)), set(0x1p-24F)));
    auto result = hn::IfThenElse(less(magnitude, 0x400U), small, normal);
    result = hn::IfThenElse(less(magnitude, 0x7C00U), result, special);
    return hn::BitCast(tag{}, hn::Or(result, sign));
  }
  static CRAYON_INLINE half_vec narrow_f16(vec v) noexcept {
    const bits_tag u;
    const auto bits = hn::BitCast(u, v);
    const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(u, 0x8000U));
    const auto magnitude = hn::And(bits, hn::Set(u, 0x7FFFFFFFU));
    const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(u, 1));
    const auto normal =
        hn::ShiftRight<13>(hn::Add(hn::Sub(magnitude, hn::Set(u, (112U << 23) - 0xFFFU)), odd));
    const auto aligned = hn::Add(hn::BitCast(tag{}, magnitude), set(0.5F));
    const auto small = hn::Sub(hn::BitCast(u, aligned), hn::Set(u, 0x3F000000U));
    auto result = hn::IfThenElse(less(magnitude, 0x38800000U), small, normal);
    result = hn::IfThenElse(less(magnitude, 0x477FF000U), result, hn::Set(u, 0x7C00U));
    result = hn::IfThenElse(less(magnitude, 0x7F800001U), result, hn::Set(u, 0x7E00U));
    return lower_half(hn::Or(result, sign));
  }
  static CRAYON_INLINE auto less(bits_vec magnitude, std::uint32_t bound) noexcept {
    const int_tag i;
    return hn::RebindMask(bits_tag{}, hn::Lt(hn::BitCast(i, magnitude),
                                             hn::Set(i, static_cast<std::int32_t>(bound))));
  }
#endif
};
