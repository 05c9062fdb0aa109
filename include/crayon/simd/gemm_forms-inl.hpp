// SPDX-License-Identifier: MIT
// The three products of matrices, and what they do where a side is small. Included like
// elementwise-inl.hpp, and after gemm-inl.hpp.

/// C = U W^T as dot products, rows I... of U against 4 rows of W: for few rows on either side.
template <class V, class E, std::size_t... I>
CRAYON_INLINE void dot_tile(const float* u, std::size_t u_stride, matrix_view<const E> w, float* c,
                            std::size_t c_stride, bool add, std::index_sequence<I...>) noexcept {
  constexpr auto four = std::make_index_sequence<4>{};
  const std::size_t depth = w.cols;
  std::size_t j = 0;
  for (; j + 4 <= w.rows; j += 4) {
    typename V::vec sum[sizeof...(I)][4];
    (tile_zero<V>(sum[I], four), ...);
    const E* from = w.data + j * w.stride;
    for (std::size_t p = 0; p < depth; p += V::width) {
      const std::size_t rest = depth - p;
      if (rest >= V::width) {
        const typename V::vec from_w[4] = {V::load(from + p), V::load(from + w.stride + p),
                                           V::load(from + 2 * w.stride + p),
                                           V::load(from + 3 * w.stride + p)};
        (tile_row<V>(sum[I], V::load(u + I * u_stride + p), from_w, four), ...);
      } else {
        const typename V::vec from_w[4] = {
            V::load(from + p, rest), V::load(from + w.stride + p, rest),
            V::load(from + 2 * w.stride + p, rest), V::load(from + 3 * w.stride + p, rest)};
        (tile_row<V>(sum[I], V::load(u + I * u_stride + p, rest), from_w, four), ...);
      }
    }
    for (std::size_t i = 0; i < 4; ++i) {
      ((c[I * c_stride + j + i] =
            (add ? c[I * c_stride + j + i] : 0.0F) + V::reduce_add(sum[I][i])),
       ...);
    }
  }
  for (; j < w.rows; ++j) {
    ((c[I * c_stride + j] = (add ? c[I * c_stride + j] : 0.0F) +
                            dot<V>(w.data + j * w.stride, u + I * u_stride, depth)),
     ...);
  }
}

/// Rows I... of C (., cols) (+)= A B for at most half a vector of columns. Two steps of the depth
/// lie side by side: lanes 2j and 2j + 1 of b's vector q are B(2q, j) and B(2q + 1, j).
template <class V, std::size_t... I>
CRAYON_INLINE void narrow_tile(gemm_operand<float> a, const float* b, std::size_t depth, float* c,
                               std::size_t c_stride, std::size_t cols, bool add,
                               std::index_sequence<I...> rows) noexcept {
  typename V::vec sum[sizeof...(I)];
  tile_zero<V>(sum, rows);
  std::size_t p = 0;
  for (; p + 2 <= depth; p += 2, b += V::width) {
    const auto from_b = V::load(b);
    ((sum[I] = V::fma(V::set_pair(a.data + I * a.stride + p), from_b, sum[I])), ...);
  }
  if (p < depth) {  // beside the last step there are zeros
    const auto from_b = V::load(b);
    ((sum[I] = V::fma(V::set(a.data[I * a.stride + p]), from_b, sum[I])), ...);
  }
  ((sum[I] = V::add_pairs(sum[I], sum[I])), ...);
  if (add) {
    (V::store(V::add(V::load(c + I * c_stride, cols), sum[I]), c + I * c_stride, cols), ...);
  } else {
    (V::store(sum[I], c + I * c_stride, cols), ...);
  }
}

template <class V, std::size_t Rows>
void narrow_rows(gemm_operand<float> a, const float* b, std::size_t depth, std::size_t rows,
                 float* c, std::size_t c_stride, std::size_t cols, bool add) noexcept {
  for (; rows >= Rows; rows -= Rows) {
    narrow_tile<V>(a, b, depth, c, c_stride, cols, add, std::make_index_sequence<Rows>{});
    a.data += Rows * a.stride;
    c += Rows * c_stride;
  }
  if constexpr (Rows > 1) {
    if (rows > 0) narrow_rows<V, Rows / 2>(a, b, depth, rows, c, c_stride, cols, add);
  }
}

/// M (+)= U W^T where W has at most half a vector of rows, as a low rank has: all lanes are busy.
template <class V, class E>
void narrow_gemm_nt(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
                    bool accumulate) noexcept {
  alignas(64) float packed[gemm_depth / 2 * V::width];
  for (std::size_t p = 0; p < u.cols; p += gemm_depth) {
    const std::size_t deep = u.cols - p < gemm_depth ? u.cols - p : gemm_depth;
    for (std::size_t q = 0; q < (deep + 1) / 2; ++q) V::store(V::zero(), packed + q * V::width);
    for (std::size_t j = 0; j < w.rows; ++j) {
      const E* row = w.row(j) + p;
      float* to = packed + 2 * j;
      std::size_t i = 0;
      for (; i + 2 <= deep; i += 2, to += V::width) {
        to[0] = to_float(row[i]);
        to[1] = to_float(row[i + 1]);
      }
      if (i < deep) to[0] = to_float(row[i]);
    }
    narrow_rows<V, 2 * V::gemm_rows>({u.data + p, u.stride}, packed, deep, m.rows, m.data, m.stride,
                                     m.cols, accumulate || p > 0);
  }
}

template <class V, class E>
void gemm_nt(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
             bool accumulate) noexcept {
  if constexpr (V::has_pairs) {
    if (u.cols > 0 && m.rows >= V::gemm_rows && m.cols >= 4 && m.cols <= V::width / 2) {
      narrow_gemm_nt<V>(u, w, m, accumulate);
      return;
    }
  }
  if (m.rows < V::gemm_rows || m.cols < 8) {
    std::size_t i = 0;
    for (; i + 4 <= m.rows; i += 4) {
      dot_tile<V>(u.data + i * u.stride, u.stride, w, m.data + i * m.stride, m.stride, accumulate,
                  std::make_index_sequence<4>{});
    }
    for (; i < m.rows; ++i) {
      dot_tile<V>(u.data + i * u.stride, u.stride, w, m.data + i * m.stride, m.stride, accumulate,
                  std::make_index_sequence<1>{});
    }
  } else {
    gemm<V, false, true>({u.data, u.stride}, gemm_operand<E>{w.data, w.stride}, m, u.cols,
                         accumulate);
  }
}

template <class V, class E>
void gemm_nn(matrix_view<const float> u, matrix_view<const E> w, matrix_view<float> m,
             bool accumulate) noexcept {
  gemm<V, false, false>({u.data, u.stride}, gemm_operand<E>{w.data, w.stride}, m, u.cols,
                        accumulate);
}

template <class V>
void gemm_tn(matrix_view<const float> u, matrix_view<const float> v, matrix_view<float> m,
             bool accumulate) noexcept {
  gemm<V, true, false>({u.data, u.stride}, gemm_operand<float>{v.data, v.stride}, m, u.rows,
                       accumulate);
}
