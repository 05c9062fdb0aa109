// SPDX-License-Identifier: MIT
// Matrix times matrix. Included like elementwise-inl.hpp, and after gemv-inl.hpp.
//
// C (m,n) (+)= A (m,k) B (k,n), any operand possibly given transposed. A panel of B, `gemm_vectors`
// vectors wide and at most `gemm_depth` deep, is packed on the stack (and converted to f32) and
// stays in the first-level cache while all rows of A pass over it in tiles of `gemm_rows`, whose
// sums stay in registers. A is broadcast element by element from where it lies.

inline constexpr std::size_t gemm_depth = 256;

/// Rows of B that are that close, in elements, are read where they are.
inline constexpr std::size_t gemm_near = 64;

template <class V, std::size_t... J>
CRAYON_INLINE void tile_row(typename V::vec* sum, typename V::vec a, const typename V::vec* b,
                            std::index_sequence<J...>) noexcept {
  ((sum[J] = V::fma(a, b[J], sum[J])), ...);
}

template <class V, class E, std::size_t... J>
CRAYON_INLINE void tile_load(typename V::vec* b, const E* from,
                             std::index_sequence<J...>) noexcept {
  ((b[J] = V::load(from + J * V::width)), ...);
}

/// Stores whole vectors J..., then the first `rest` lanes of the one after them.
template <class V, bool Add, std::size_t... J>
CRAYON_INLINE void tile_store(const typename V::vec* sum, float* c, std::size_t rest,
                              std::index_sequence<J...>) noexcept {
  constexpr std::size_t w = V::width;
  (V::store(Add ? V::add(V::load(c + J * w), sum[J]) : sum[J], c + J * w), ...);
  const auto last = sum[sizeof...(J)];
  c += sizeof...(J) * w;
  if (rest == w) {
    V::store(Add ? V::add(V::load(c), last) : last, c);
  } else {
    V::store(Add ? V::add(V::load(c, rest), last) : last, c, rest);
  }
}

/// N zeros.
template <class V, std::size_t... J>
CRAYON_INLINE void tile_zero(typename V::vec* sum, std::index_sequence<J...>) noexcept {
  ((sum[J] = V::zero()), ...);
}

/// One operand of a product as the inner loop reads it.
template <class E>
struct gemm_operand {
  const E* data;
  std::size_t stride;
};

/// C tile (I, Vectors * width) (+)= A (I, depth) B (depth, Vectors * width). A's element (i, p) is
/// at a[i * stride + p], or at a[p * stride + i] where `Transposed`. `rest` is the number of
/// columns of the last vector that exist in C.
template <class V, bool Transposed, std::size_t Vectors, class E, std::size_t... I>
CRAYON_INLINE void tile(gemm_operand<float> a, gemm_operand<E> b, std::size_t depth, float* c,
                        std::size_t c_stride, std::size_t rest, bool add,
                        std::index_sequence<I...>) noexcept {
  constexpr auto columns = std::make_index_sequence<Vectors>{};
  constexpr auto whole = std::make_index_sequence<Vectors - 1>{};
  typename V::vec sum[sizeof...(I)][Vectors];
  (tile_zero<V>(sum[I], columns), ...);
  for (std::size_t p = 0; p < depth; ++p) {
    typename V::vec from_b[Vectors];
    tile_load<V>(from_b, b.data + p * b.stride, columns);
    if constexpr (Transposed) {
      (tile_row<V>(sum[I], V::set(a.data[p * a.stride + I]), from_b, columns), ...);
    } else {
      (tile_row<V>(sum[I], V::set(a.data[I * a.stride + p]), from_b, columns), ...);
    }
  }
  if (add) {
    (tile_store<V, true>(sum[I], c + I * c_stride, rest, whole), ...);
  } else {
    (tile_store<V, false>(sum[I], c + I * c_stride, rest, whole), ...);
  }
}

/// All rows of A over one panel of B: tiles of `Rows` rows, then the rest in halves.
template <class V, bool Transposed, std::size_t Vectors, std::size_t Rows, class E>
void panel_rows(gemm_operand<float> a, gemm_operand<E> b, std::size_t depth, std::size_t rows,
                float* c, std::size_t c_stride, std::size_t rest, bool add) noexcept {
  while (rows >= Rows) {
    tile<V, Transposed, Vectors>(a, b, depth, c, c_stride, rest, add,
                                 std::make_index_sequence<Rows>{});
    a.data += Transposed ? Rows : Rows * a.stride;
    c += Rows * c_stride;
    rows -= Rows;
  }
  if constexpr (Rows > 1) {
    if (rows > 0) {
      panel_rows<V, Transposed, Vectors, Rows / 2>(a, b, depth, rows, c, c_stride, rest, add);
    }
  }
}

template <class V, bool Transposed, std::size_t Vectors, class E>
void panel(gemm_operand<float> a, gemm_operand<E> b, std::size_t depth, std::size_t rows, float* c,
           std::size_t c_stride, std::size_t cols, bool add) noexcept {
  if constexpr (Vectors > 1) {
    if (cols <= (Vectors - 1) * V::width) {
      panel<V, Transposed, Vectors - 1>(a, b, depth, rows, c, c_stride, cols, add);
      return;
    }
  }
  panel_rows<V, Transposed, Vectors, V::gemm_rows>(a, b, depth, rows, c, c_stride,
                                                   cols - (Vectors - 1) * V::width, add);
}

/// to[p * width + j] = from(p, j) for j < cols, 0 above; `width` is cols rounded up to vectors.
template <class V, class E>
void pack_rows(gemm_operand<E> from, std::size_t depth, std::size_t cols, float* to,
               std::size_t width) noexcept {
  for (std::size_t p = 0; p < depth; ++p, to += width) {
    const E* row = from.data + p * from.stride;
    std::size_t j = 0;
    for (; j + V::width <= cols; j += V::width) V::store(V::load(row + j), to + j);
    if (j < cols) V::store(V::load(row + j, cols - j), to + j);
  }
}

/// to[p * width + j] = from(j, p) for j < cols, 0 above; four rows of `from` at a time.
template <class V, class E>
void pack_columns(gemm_operand<E> from, std::size_t depth, std::size_t cols, float* to,
                  std::size_t width) noexcept {
  constexpr std::size_t w = V::width;
  const std::size_t stride = from.stride;
  std::size_t j = 0;
  for (; j + 4 <= cols; j += 4) {
    const E* row = from.data + j * stride;
    std::size_t p = 0;
    for (; p + w <= depth; p += w, row += w) {
      V::store_transposed(V::load(row), V::load(row + stride), V::load(row + 2 * stride),
                          V::load(row + 3 * stride), to + p * width + j, width);
    }
    for (; p < depth; ++p, ++row) {
      for (std::size_t i = 0; i < 4; ++i) to[p * width + j + i] = to_float(row[i * stride]);
    }
  }
  for (std::size_t p = 0; p < depth; ++p) {
    for (std::size_t i = j; i < cols; ++i) to[p * width + i] = to_float(from.data[i * stride + p]);
    for (std::size_t i = cols; i < width; ++i) to[p * width + i] = 0;
  }
}

/// `ATransposed`: A is stored (k, m). `BTransposed`: B is stored (n, k).
template <class V, bool ATransposed, bool BTransposed, class E>
void gemm(gemm_operand<float> a, gemm_operand<E> b, matrix_view<float> c, std::size_t depth,
          bool accumulate) noexcept {
  constexpr std::size_t wide = V::gemm_vectors * V::width;
  if (depth == 0 && !accumulate) {
    for (std::size_t i = 0; i < c.rows; ++i) {
      for (std::size_t j = 0; j < c.cols; ++j) c.data[i * c.stride + j] = 0;
    }
  }
  alignas(64) float packed[gemm_depth * wide];
  for (std::size_t p = 0; p < depth; p += gemm_depth) {
    const std::size_t deep = depth - p < gemm_depth ? depth - p : gemm_depth;
    const gemm_operand<float> a_block{a.data + (ATransposed ? p * a.stride : p), a.stride};
    for (std::size_t j = 0; j < c.cols; j += wide) {
      const std::size_t cols = c.cols - j < wide ? c.cols - j : wide;
      const std::size_t width = (cols + V::width - 1) / V::width * V::width;
      const bool add = accumulate || p > 0;
      const gemm_operand<E> b_block{b.data + (BTransposed ? j * b.stride + p : p * b.stride + j),
                                    b.stride};
      if constexpr (BTransposed) {
        pack_columns<V>(b_block, deep, cols, packed, width);
      } else if (cols == width && (c.rows <= 2 * V::gemm_rows || b.stride <= gemm_near)) {
        // Too few rows to pay for packing, or as good as packed.
        panel<V, ATransposed, V::gemm_vectors>(a_block, b_block, deep, c.rows, c.data + j, c.stride,
                                               cols, add);
        continue;
      } else {
        pack_rows<V>(b_block, deep, cols, packed, width);
      }
      panel<V, ATransposed, V::gemm_vectors>(a_block, gemm_operand<float>{packed, width}, deep,
                                             c.rows, c.data + j, c.stride, cols, add);
    }
  }
}
