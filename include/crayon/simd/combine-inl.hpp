// SPDX-License-Identifier: MIT
// Several weighted sums of the same rows at once. Included like elementwise-inl.hpp, and after it.

/// Two vectors of sums Q... at `at`: what lies there is loaded once for all of them. Asks for what
/// lies `ahead` bytes further on.
template <class V, class E, std::size_t... Q>
CRAYON_INLINE void weighted_sums_at(const weighted_tiles<E>& rows, const float* weight,
                                    std::size_t sums, std::size_t at, std::size_t ahead, E* e,
                                    std::size_t stride, std::index_sequence<Q...>) noexcept {
  typename V::vec low[] = {(static_cast<void>(Q), V::zero())...};
  typename V::vec high[] = {(static_cast<void>(Q), V::zero())...};
  const auto add = [](auto w, auto x, auto y, auto& a, auto& b) {
    a = V::fma(w, x, a);
    b = V::fma(w, y, b);
  };
  for (std::size_t i = 0; i < rows.count; ++i, weight += sums) {
    const E* p = rows.src[i] + at;
    for (std::size_t byte = 0; ahead != 0 && byte < 2 * V::width * sizeof(E); byte += 64) {
      __builtin_prefetch(reinterpret_cast<const char*>(p) + ahead + byte, 0, 2);  // to L2
    }
    typename V::vec x, y;
    V::load_pair(p, x, y);
    (add(V::set(weight[Q]), x, y, low[Q], high[Q]), ...);
  }
  (V::store_pair(low[Q], high[Q], e + Q * stride), ...);
}

/// `length` elements of one tile: blocks of Q sums, then the rest in halves.
template <class V, std::size_t Q, class E>
void weighted_sums_of_tile(const weighted_tiles<E>& rows, const float* weight, std::size_t sums,
                           std::size_t left, std::size_t at, std::size_t length, std::size_t ahead,
                           E* e, std::size_t stride) noexcept {
  constexpr std::size_t pair = 2 * V::width;
  for (; left >= Q; left -= Q, weight += Q, e += Q * stride) {
    std::size_t j = 0;
    for (; j + pair <= length; j += pair) {
      weighted_sums_at<V>(rows, weight, sums, at + j, ahead, e + j, stride,
                          std::make_index_sequence<Q>{});
    }
    ahead = 0;
    for (; j < length; j += V::width) {
      const std::size_t rest = length - j < V::width ? length - j : V::width;
      for (std::size_t q = 0; q < Q; ++q) {
        auto sum = V::zero();
        for (std::size_t i = 0; i < rows.count; ++i) {
          const auto x = V::load(rows.src[i] + at + j, rest);
          sum = V::fma(V::set(weight[i * sums + q]), x, sum);
        }
        V::store(sum, e + q * stride + j, rest);
      }
    }
  }
  if constexpr (Q > 1) {
    if (left > 0) {
      weighted_sums_of_tile<V, Q / 2>(rows, weight, sums, left, at, length, ahead, e, stride);
    }
  }
}

/// The weights are (count, sums), the sums lie `stride` apart.
template <class V, class E>
void weighted_sums(weighted_tiles<E> rows, std::size_t sums, E* e, std::size_t stride,
                   std::size_t n) noexcept {
  for (std::size_t first = 0, at = 0; first < n; first += rows.tile, at += rows.stride) {
    const std::size_t length = n - first < rows.tile ? n - first : rows.tile;
    weighted_sums_of_tile<V, V::gemm_rows>(rows, rows.weight, sums, sums, at, length,
                                           rows.stride * sizeof(E), e + first, stride);
  }
}

/// sum[R] += the products of row R of every source with its weights. `wide` holds the sources' rows
/// in f32, `slot` elements apart. With `Pairs` a vector of weights is those of two columns, lane by
/// lane in turn, so that half a vector of sums fills a whole one.
template <class V, bool Pairs, std::size_t... R>
CRAYON_INLINE void row_sums(const float* wide, std::size_t slot, std::size_t count,
                            std::size_t cols, const float* weight, typename V::vec* sum,
                            std::index_sequence<R...>) noexcept {
  for (std::size_t i = 0; i < count; ++i, wide += slot) {
    for (std::size_t k = 0; k < cols; k += Pairs ? 2 : 1, weight += V::width) {
      const auto w = V::load(weight);
      if constexpr (Pairs) {
        ((sum[R] = V::fma(V::set_pair(wide + R * cols + k), w, sum[R])), ...);
      } else {
        ((sum[R] = V::fma(V::set(wide[R * cols + k]), w, sum[R])), ...);
      }
    }
  }
}

template <class V, class E>
CRAYON_INLINE void widen(const E* from, std::size_t n, float* to) noexcept {
  std::size_t j = 0;
  for (; j + V::width <= n; j += V::width) V::store(V::load(from + j), to + j);
  if (j < n) V::store(V::load(from + j, n - j), to + j, n - j);
}

/// `left` rows from `at` on, in blocks of R, then the rest in halves.
template <class V, bool Pairs, std::size_t R, class E>
void weighted_row_sums_of_tile(const weighted_tiles<E>& rows, std::size_t cols, std::size_t sums,
                               std::size_t at, std::size_t left, const float* packed, float* wide,
                               E* e) noexcept {
  constexpr auto block = std::make_index_sequence<R>{};
  for (; left >= R; left -= R, at += R * cols, e += R * sums) {
    for (std::size_t i = 0; i < rows.count; ++i) {
      const E* p = rows.src[i] + at;
      for (std::size_t byte = 0; byte < R * cols * sizeof(E); byte += 64) {
        __builtin_prefetch(reinterpret_cast<const char*>(p) + rows.stride * sizeof(E) + byte, 0, 2);
      }
      widen<V>(p, R * cols, wide + i * R * cols);
    }
    const float* weight = packed;
    for (std::size_t q = 0; q < sums; q += V::width, weight += rows.count * cols * V::width) {
      typename V::vec sum[R];
      tile_zero<V>(sum, block);
      row_sums<V, Pairs>(wide, R * cols, rows.count, cols, weight, sum, block);
      if constexpr (Pairs && R > 1) {
        [&]<std::size_t... H>(std::index_sequence<H...>) {
          (V::store(V::add_pairs(sum[2 * H], sum[2 * H + 1]), e + 2 * H * sums), ...);
        }
        (std::make_index_sequence<R / 2>{});
      } else if constexpr (Pairs) {
        V::store(V::add_pairs(sum[0], sum[0]), e, sums);
      } else {
        const std::size_t rest = sums - q < V::width ? sums - q : V::width;
        for (std::size_t r = 0; r < R; ++r) {
          if (rest == V::width) {
            V::store(sum[r], e + r * sums + q);
          } else {
            V::store(sum[r], e + r * sums + q, rest);
          }
        }
      }
    }
  }
  if constexpr (R > 1) {
    if (left > 0) {
      weighted_row_sums_of_tile<V, Pairs, R / 2>(rows, cols, sums, at, left, packed, wide, e);
    }
  }
}

template <class V, bool Pairs, class E>
void weighted_row_sums(const weighted_tiles<E>& rows, std::size_t cols, std::size_t sums, E* e,
                       std::size_t n, float* scratch) noexcept {
  constexpr std::size_t w = V::width;
  const std::size_t columns = rows.count * cols;
  float* const wide = scratch + columns * ((sums + w - 1) / w * w);
  if constexpr (Pairs) {
    for (std::size_t c = 0; c < columns; ++c) {
      for (std::size_t q = 0; q < sums; ++q) {
        scratch[c / 2 * w + 2 * q + c % 2] = rows.weight[c * sums + q];
      }
    }
  } else {
    for (std::size_t c = 0; c < columns; ++c) {
      for (std::size_t q = 0; q < (sums + w - 1) / w * w; ++q) {
        scratch[(q / w * columns + c) * w + q % w] = q < sums ? rows.weight[c * sums + q] : 0.0F;
      }
    }
  }
  for (std::size_t first = 0, at = 0; first < n; first += rows.tile, at += rows.stride) {
    const std::size_t length = n - first < rows.tile ? n - first : rows.tile;
    weighted_row_sums_of_tile<V, Pairs, 2 * V::gemm_rows>(rows, cols, sums, at, length / cols,
                                                          scratch, wide, e + first / cols * sums);
  }
}

/// E (n / cols, sums): rows of `cols` elements, a tile holding whole ones, times weights
/// (count * cols, sums). Broadcasts the elements of the rows, which are widened into `scratch`
/// first; it needs count * cols * (sums + 32) floats.
template <class V, class E>
void weighted_row_sums(weighted_tiles<E> rows, std::size_t cols, std::size_t sums, E* e,
                       std::size_t n, float* scratch) noexcept {
  if constexpr (V::has_pairs) {
    if (2 * sums == V::width && cols % 2 == 0) {
      weighted_row_sums<V, true>(rows, cols, sums, e, n, scratch);
      return;
    }
  }
  weighted_row_sums<V, false>(rows, cols, sums, e, n, scratch);
}
