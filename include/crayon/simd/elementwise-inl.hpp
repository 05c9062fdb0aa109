// SPDX-License-Identifier: MIT
// Kernels over vectors. Included inside the namespace of one target (see kernels-inl.hpp), once per
// target, so it includes nothing and has no guard.
//
// `V` is the target's vector of f32: `V::vec` with `V::width` lanes. A whole vector is loaded from
// and stored to any element type at any address; `load(p, count)` and `store(v, p, count)` touch
// only the first `count` < width elements, absent lanes being 0. `load_pair` takes two vectors'
// worth of elements, in an order of its own that `store_pair` and `stream_pair` undo. `any_less` is
// whether a < b in some lane.

template <class V, class E>
float dot(const E* p, const float* x, std::size_t n) noexcept {
  constexpr std::size_t w = V::width;
  auto s0 = V::zero(), s1 = V::zero(), s2 = V::zero(), s3 = V::zero();
  std::size_t j = 0;
  for (; j + 4 * w <= n; j += 4 * w) {
    s0 = V::fma(V::load(p + j), V::load(x + j), s0);
    s1 = V::fma(V::load(p + j + w), V::load(x + j + w), s1);
    s2 = V::fma(V::load(p + j + 2 * w), V::load(x + j + 2 * w), s2);
    s3 = V::fma(V::load(p + j + 3 * w), V::load(x + j + 3 * w), s3);
  }
  for (; j + w <= n; j += w) s0 = V::fma(V::load(p + j), V::load(x + j), s0);
  if (j < n) s1 = V::fma(V::load(p + j, n - j), V::load(x + j, n - j), s1);
  return V::reduce_add(V::add(V::add(s0, s1), V::add(s2, s3)));
}

template <class V, class E>
void axpy(float s, const E* p, float* y, std::size_t n) noexcept {
  constexpr std::size_t w = V::width;
  const auto scale = V::set(s);
  std::size_t j = 0;
  for (; j + 2 * w <= n; j += 2 * w) {
    const auto y0 = V::fma(scale, V::load(p + j), V::load(y + j));
    const auto y1 = V::fma(scale, V::load(p + j + w), V::load(y + j + w));
    V::store(y0, y + j);
    V::store(y1, y + j + w);
  }
  for (; j + w <= n; j += w) V::store(V::fma(scale, V::load(p + j), V::load(y + j)), y + j);
  if (j < n) V::store(V::fma(scale, V::load(p + j, n - j), V::load(y + j, n - j)), y + j, n - j);
}

template <class V>
void ger(float s, const float* x, const float* y, matrix_view<float> m) noexcept {
  for (std::size_t r = 0; r < m.rows; ++r) axpy<V>(s * x[r], y, m.row(r), m.cols);
}

/// What a sum starts from. Zeros keep their sign: -0 + x is x, and one row of weight 1 is copied.
template <class V, class E>
CRAYON_INLINE auto start_of(const weighted_tiles<E>& rows) noexcept {
  return V::set(rows.count == 0 ? 0.0F : -0.0F);
}

/// Pairs J... of vectors of the sum at once, so that each row's weight and address are read once.
/// (Loops over an index sequence are unrolled by the language: arrays of vectors then live in
/// registers.) Asks for what lies `ahead` bytes further on.
template <class V, bool Stream, class E, std::size_t... J>
CRAYON_INLINE void weighted_sum_at(const weighted_tiles<E>& rows, std::size_t at, std::size_t ahead,
                                   E* e, std::index_sequence<J...>) noexcept {
  constexpr std::size_t pair = 2 * V::width;
  const auto start = start_of<V>(rows);
  typename V::vec low[] = {(static_cast<void>(J), start)...};
  typename V::vec high[] = {(static_cast<void>(J), start)...};
  // The prefetches stand among the sums: g++ 12 drops calls of a function that only prefetches, and
  // does not unroll a loop of them at -O2.
  const auto add = []<std::size_t Byte>(std::integral_constant<std::size_t, Byte>, auto weight,
                                        const E* p, std::size_t further, auto& a, auto& b) {
    const char* line = reinterpret_cast<const char*>(p) + further;
    if constexpr (Byte % 64 == 0) __builtin_prefetch(line, 0, 2);  // to L2
    if constexpr (pair * sizeof(E) > 64) __builtin_prefetch(line + 64, 0, 2);
    typename V::vec x, y;
    V::load_pair(p, x, y);
    a = V::fma(weight, x, a);
    b = V::fma(weight, y, b);
  };
  for (std::size_t i = 0; i < rows.count; ++i) {
    const auto weight = V::set(rows.weight[i]);
    const E* p = rows.src[i] + at;
    (add(std::integral_constant<std::size_t, J * pair * sizeof(E)>{}, weight, p + J * pair, ahead,
         low[J], high[J]),
     ...);
  }
  if constexpr (Stream) {
    (V::stream_pair(low[J], high[J], e + J * pair), ...);
  } else {
    (V::store_pair(low[J], high[J], e + J * pair), ...);
  }
}

template <class V, bool Stream, class E>
void weighted_sum_of_tiles(const weighted_tiles<E>& rows, std::size_t ahead, E* e,
                           std::size_t n) noexcept {
  constexpr std::size_t pair = 2 * V::width, pairs = sizeof(E) == 4 ? 2 : V::gemm_rows;
  for (std::size_t first = 0, at = 0; first < n; first += rows.tile, at += rows.stride) {
    const std::size_t length = n - first < rows.tile ? n - first : rows.tile;
    E* to = e + first;
    std::size_t j = 0;
    for (; j + pairs * pair <= length; j += pairs * pair) {
      weighted_sum_at<V, Stream>(rows, at + j, ahead, to + j, std::make_index_sequence<pairs>{});
    }
    for (; j + pair <= length; j += pair) {
      weighted_sum_at<V, false>(rows, at + j, ahead, to + j, std::make_index_sequence<1>{});
    }
    for (; j < length; j += V::width) {
      const std::size_t rest = length - j < V::width ? length - j : V::width;
      auto sum = start_of<V>(rows);
      for (std::size_t i = 0; i < rows.count; ++i) {
        const E* p = rows.src[i] + at + j;
        const auto x = rest == V::width ? V::load(p) : V::load(p, rest);
        sum = V::fma(V::set(rows.weight[i]), x, sum);
      }
      if (rest == V::width) {
        V::store(sum, to + j);
      } else {
        V::store(sum, to + j, rest);
      }
    }
  }
}

/// At the speed of reading memory. Percent of it for 8 / 64 adapters of bf16 (2.3 GHz Xeon with
/// AVX-512, 2 MB of L2, large pages), by how far ahead lines are asked for: not at all 73 / 76, 2
/// KB 84 / 89, 4 to 32 KB 95 / 95; into L1 instead of L2 at most 92; a vector of bf16 at a time
/// instead of a pair 91 / 80; ordinary stores 5 to 8 less.
template <class V, class E>
void weighted_sum(weighted_tiles<E> rows, E* e, std::size_t n, bool past_caches) noexcept {
  constexpr std::size_t distance = 8192;
  const std::size_t block = rows.count * rows.tile * sizeof(E);
  const std::size_t blocks = block == 0 || block > distance ? 1 : (distance + block - 1) / block;
  const std::size_t ahead = blocks * rows.stride * sizeof(E);
  if constexpr (V::template streams<E>) {
    const bool aligned = (reinterpret_cast<std::uintptr_t>(e) | rows.tile * sizeof(E)) % 64 == 0;
    if (past_caches && aligned) {
      weighted_sum_of_tiles<V, true>(rows, ahead, e, n);
      V::end_stream();
      return;
    }
  }
  weighted_sum_of_tiles<V, false>(rows, ahead, e, n);
}

template <class V, class E>
void weighted_sum(weighted_rows<E> rows, E* e, std::size_t n) noexcept {
  if (n == 0) return;
  const std::size_t ahead = n * sizeof(E) < 8192 ? 0 : 1024;
  weighted_sum_of_tiles<V, false>(weighted_tiles<E>{rows.weight, rows.src, rows.count, n, 0}, ahead,
                                  e, n);
}

/// e^x: 2^n times a polynomial of degree 7 in r = x - n ln 2, |r| <= ln(2)/2 (the coefficients are
/// Cephes' expf). At most 1.01 ulp from the exact value over every seventh float of the range, with
/// and without fma. Below -87.33, where results would be subnormal, 0; above 88.37, infinity; NaN
/// stays NaN.
template <class V>
CRAYON_INLINE auto exp(typename V::vec x) noexcept {
  const auto magic = V::set(12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer
  const auto shifted = V::fma(x, V::set(1.44269504F), magic);
  const auto n = V::sub(shifted, magic);
  auto r = V::fma(n, V::set(-0.693359375F), x);  // 9 bits: the product is exact without FMA too
  r = V::fma(n, V::set(2.12194440e-4F), r);
  auto p = V::fma(V::set(1.9875691500e-4F), r, V::set(1.3981999507e-3F));
  p = V::fma(p, r, V::set(8.3334519073e-3F));
  p = V::fma(p, r, V::set(4.1665795894e-2F));
  p = V::fma(p, r, V::set(1.6666665459e-1F));
  p = V::fma(p, r, V::set(5.0000001201e-1F));
  p = V::add(V::fma(p, V::mul(r, r), r), V::set(1.0F));
  const auto y = V::mul(p, V::times_power_of_two(V::set(1.0F), shifted));
  const auto low = V::set(-87.33F), high = V::set(88.37F);
  return V::select_less(x, low, V::zero(), V::select_less(high, x, V::set(__builtin_inff()), y));
}

template <class V>
void softmax(float* y, std::size_t n) noexcept {
  constexpr std::size_t w = V::width;
  if (n == 0) return;
  std::size_t j = 0;
  float top = y[0];
  if (n >= w) {
    auto best = V::load(y);
    for (j = w; j + w <= n; j += w) best = V::max(best, V::load(y + j));
    top = V::reduce_max(best);
  }
  for (; j < n; ++j) top = y[j] > top ? y[j] : top;
  const auto shift = V::set(top);
  auto sum = V::zero();
  for (j = 0; j + w <= n; j += w) {
    const auto e = exp<V>(V::sub(V::load(y + j), shift));
    sum = V::add(sum, e);
    V::store(e, y + j);
  }
  float total = V::reduce_add(sum);
  if (j < n) {
    V::store(exp<V>(V::sub(V::load(y + j, n - j), shift)), y + j, n - j);
    for (std::size_t i = j; i < n; ++i) total += y[i];
  }
  const auto scale = V::set(1 / total);
  for (j = 0; j + w <= n; j += w) V::store(V::mul(V::load(y + j), scale), y + j);
  if (j < n) V::store(V::mul(V::load(y + j, n - j), scale), y + j, n - j);
}

template <class V>
void rms_norm(const float* x, const float* weight, float epsilon, float* y,
              std::size_t n) noexcept {
  constexpr std::size_t w = V::width;
  const float mean = dot<V>(x, x, n) / static_cast<float>(n);
  const auto scale = V::set(1 / __builtin_sqrtf(mean + epsilon));
  std::size_t j = 0;
  for (; j + w <= n; j += w) {
    V::store(V::mul(V::mul(V::load(x + j), scale), V::load(weight + j)), y + j);
  }
  if (j < n) {
    V::store(V::mul(V::mul(V::load(x + j, n - j), scale), V::load(weight + j, n - j)), y + j,
             n - j);
  }
}

template <class V>
CRAYON_INLINE auto silu(typename V::vec x) noexcept {
  return V::div(x, V::add(V::set(1.0F), exp<V>(V::sub(V::zero(), x))));
}

template <class V>
void silu_mul(const float* x, const float* up, float* y, std::size_t n) noexcept {
  constexpr std::size_t w = V::width;
  std::size_t j = 0;
  for (; j + w <= n; j += w) V::store(V::mul(silu<V>(V::load(x + j)), V::load(up + j)), y + j);
  if (j < n) {
    V::store(V::mul(silu<V>(V::load(x + j, n - j)), V::load(up + j, n - j)), y + j, n - j);
  }
}

template <class V>
void silu_mul_backward(const float* x, const float* up, const float* dy, float* dx, float* d_up,
                       std::size_t n) noexcept {
  constexpr std::size_t w = V::width;
  const auto one = V::set(1.0F);
  const auto derive = [one](auto x_j, auto up_j, auto dy_j, auto& dx_j, auto& d_up_j) {
    const auto s = V::div(one, V::add(one, exp<V>(V::sub(V::zero(), x_j))));
    const auto y = V::mul(x_j, s);
    d_up_j = V::mul(dy_j, y);
    dx_j = V::mul(V::mul(dy_j, up_j), V::fma(y, V::sub(one, s), s));
  };
  typename V::vec dx_j, d_up_j;
  std::size_t j = 0;
  for (; j + w <= n; j += w) {
    derive(V::load(x + j), V::load(up + j), V::load(dy + j), dx_j, d_up_j);
    V::store(dx_j, dx + j);
    V::store(d_up_j, d_up + j);
  }
  if (j < n) {
    derive(V::load(x + j, n - j), V::load(up + j, n - j), V::load(dy + j, n - j), dx_j, d_up_j);
    V::store(dx_j, dx + j, n - j);
    V::store(d_up_j, d_up + j, n - j);
  }
}

template <class V>
void softmax_backward(float s, const float* p, float* d, std::size_t n) noexcept {
  constexpr std::size_t w = V::width;
  const auto mean = V::set(dot<V>(p, static_cast<const float*>(d), n)), scale = V::set(s);
  std::size_t j = 0;
  for (; j + w <= n; j += w) {
    V::store(V::mul(V::mul(V::load(p + j), V::sub(V::load(d + j), mean)), scale), d + j);
  }
  if (j < n) {
    V::store(V::mul(V::mul(V::load(p + j, n - j), V::sub(V::load(d + j, n - j), mean)), scale),
             d + j, n - j);
  }
}
