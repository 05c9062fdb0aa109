// SPDX-License-Identifier: MIT
// Matrix times vector. Included like elementwise-inl.hpp, and after it.

/// The dot products of rows first + R... with x; two accumulators a row hide the latency of fma.
template <class V, class E, std::size_t... R>
CRAYON_INLINE void dots(matrix_view<const E> w, std::size_t first, const float* x, float* sums,
                        std::index_sequence<R...>) noexcept {
  constexpr std::size_t width = V::width;
  const E* row[] = {w.data + (first + R) * w.stride...};
  typename V::vec even[] = {(static_cast<void>(R), V::zero())...};
  typename V::vec odd[] = {(static_cast<void>(R), V::zero())...};
  std::size_t j = 0;
  for (; j + 2 * width <= w.cols; j += 2 * width) {
    const auto x0 = V::load(x + j), x1 = V::load(x + j + width);
    ((even[R] = V::fma(V::load(row[R] + j), x0, even[R])), ...);
    ((odd[R] = V::fma(V::load(row[R] + j + width), x1, odd[R])), ...);
  }
  if (j + width <= w.cols) {
    const auto x0 = V::load(x + j);
    ((even[R] = V::fma(V::load(row[R] + j), x0, even[R])), ...);
    j += width;
  }
  if (j < w.cols) {
    const std::size_t rest = w.cols - j;
    const auto x0 = V::load(x + j, rest);
    ((odd[R] = V::fma(V::load(row[R] + j, rest), x0, odd[R])), ...);
  }
  ((sums[R] = V::reduce_add(V::add(even[R], odd[R]))), ...);
}

template <class V, class E>
void gemv(matrix_view<const E> w, const float* x, float* y) noexcept {
  std::size_t r = 0;
  for (; r + 4 <= w.rows; r += 4) {
    dots<V>(w, r, x, y + r, std::make_index_sequence<4>{});
  }
  for (; r < w.rows; ++r) y[r] = dot<V>(w.data + r * w.stride, x, w.cols);
}

template <class V, class E>
void gemv_add(float s, matrix_view<const E> w, const float* x, float* y) noexcept {
  std::size_t r = 0;
  for (; r + 4 <= w.rows; r += 4) {
    float sums[4];
    dots<V>(w, r, x, sums, std::make_index_sequence<4>{});
    for (std::size_t i = 0; i < 4; ++i) y[r + i] += s * sums[i];
  }
  for (; r < w.rows; ++r) y[r] += s * dot<V>(w.data + r * w.stride, x, w.cols);
}

/// y += x[0] w[0] + ... + x[3] w[3]: y is read and written once for four rows.
template <class V, class E>
CRAYON_INLINE void axpy4(const float* x, const E* w, std::size_t stride, float* y,
                         std::size_t n) noexcept {
  const auto x0 = V::set(x[0]), x1 = V::set(x[1]), x2 = V::set(x[2]), x3 = V::set(x[3]);
  const E *w1 = w + stride, *w2 = w1 + stride, *w3 = w2 + stride;
  std::size_t j = 0;
  for (; j + V::width <= n; j += V::width) {
    auto sum = V::fma(x0, V::load(w + j), V::load(y + j));
    auto other = V::mul(x1, V::load(w1 + j));
    sum = V::fma(x2, V::load(w2 + j), sum);
    other = V::fma(x3, V::load(w3 + j), other);
    V::store(V::add(sum, other), y + j);
  }
  if (const std::size_t rest = n - j; rest > 0) {
    auto sum = V::fma(x0, V::load(w + j, rest), V::load(y + j, rest));
    sum = V::fma(x1, V::load(w1 + j, rest), sum);
    sum = V::fma(x2, V::load(w2 + j, rest), sum);
    V::store(V::fma(x3, V::load(w3 + j, rest), sum), y + j, rest);
  }
}

template <class V, class E>
void gemv_t_add(matrix_view<const E> w, const float* x, float* y) noexcept {
  std::size_t r = 0;
  for (; r + 4 <= w.rows; r += 4) axpy4<V>(x + r, w.data + r * w.stride, w.stride, y, w.cols);
  for (; r < w.rows; ++r) axpy<V>(x[r], w.data + r * w.stride, y, w.cols);
}

template <class V, class E>
void gemv_t(matrix_view<const E> w, const float* x, float* y) noexcept {
  for (std::size_t c = 0; c < w.cols; ++c) y[c] = 0;
  gemv_t_add<V>(w, x, y);
}
