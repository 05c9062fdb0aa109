// SPDX-License-Identifier: MIT
// Products with a weight matrix, its rows or columns divided among threads.
#pragma once

#include <cstddef>

#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/core/view.hpp>

namespace crayon::model {

/// Multiply-adds below which waking threads costs more than it saves: 2^18 are 10 to 50 us of one
/// core, waking a thread is up to 44 us.
inline constexpr std::size_t parallel_from = std::size_t{1} << 18;

/// task(first, last) over {0, ..., count - 1}, in parts that start at multiples of `grain`; `work`:
/// multiply-adds of all of them.
template <executor X, class Task>
void split(X& threads, std::size_t work, std::size_t count, std::size_t grain, const Task& task) {
  const std::size_t parts = work < parallel_from ? 1 : std::size_t{threads.concurrency()};
  threads.parallel_for(parts, [&](std::size_t part) {
    const auto [first, last] = part_of(count, part, parts, grain);
    if (first < last) task(first, last);
  });
}

/// y (n, out) (+)= x (n, in) W^T, W (out, in)
template <kernel_backend B, element E, executor X>
void multiply(matrix_view<const E> w, matrix_view<const float> x, matrix_view<float> y,
              bool accumulate, X& threads) {
  split(threads, x.rows * w.size(), w.rows, 16, [&](std::size_t first, std::size_t last) {
    const matrix_view<const E> rows = w.rows_from(first, last - first);
    if (x.rows > 1) {
      B::gemm_nt(x, rows, {y.data + first, y.rows, last - first, y.stride}, accumulate);
    } else if (accumulate) {
      B::gemv_add(1, rows, x.data, y.data + first);
    } else {
      B::gemv(rows, x.data, y.data + first);
    }
  });
}

/// y (n, in) = x (n, out) W, W (out, in)
template <kernel_backend B, element E, executor X>
void multiply_back(matrix_view<const E> w, matrix_view<const float> x, matrix_view<float> y,
                   X& threads) {
  split(threads, x.rows * w.size(), w.cols, 64, [&](std::size_t first, std::size_t last) {
    const matrix_view<const E> columns{w.data + first, w.rows, last - first, w.stride};
    B::gemm_nn(x, columns, {y.data + first, y.rows, last - first, y.stride}, false);
  });
}

}  // namespace crayon::model
