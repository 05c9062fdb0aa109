// SPDX-License-Identifier: MIT
#include <crayon/model/multiply.hpp>

#include <atomic>
#include <cstddef>
#include <tuple>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"

namespace {

using namespace crayon;

std::vector<float> random_numbers(std::size_t count, std::uint64_t seed) {
  rng random(seed);
  std::vector<float> numbers(count);
  for (float& x : numbers) x = random.normal();
  return numbers;
}

}  // namespace

TEST_CASE("every index is in one part, and little work is not divided", "[model]") {
  thread_pool threads(3);
  for (const std::size_t work : {model::parallel_from - 1, model::parallel_from}) {
    std::vector<std::atomic<int>> seen(100);
    std::atomic<int> parts{0}, aligned{0};
    model::split(threads, work, seen.size(), 16, [&](std::size_t first, std::size_t last) {
      ++parts;
      if (first % 16 == 0) ++aligned;
      for (std::size_t i = first; i < last; ++i) ++seen[i];
    });
    CHECK(aligned == parts);
    CHECK(parts == (work < model::parallel_from ? 1 : 3));
    for (const auto& count : seen) CHECK(count == 1);
  }
}

TEMPLATE_TEST_CASE("products over the rows and the columns of a matrix", "[model]", simd::scalar,
                   simd::highway_dynamic) {
  constexpr std::size_t out = 517, in = 523, stride = in + 5;
  static_assert(out * in > model::parallel_from);
  const auto memory = random_numbers(out * stride, 1);
  const matrix_view<const float> w(memory.data(), out, in, stride);
  thread_pool three(3);
  serial_executor one;
  for (const std::size_t n : {1U, 3U}) {
    const auto x = random_numbers(n * in, 2), u = random_numbers(n * out, 3);
    const matrix_view<const float> rows(x.data(), n, in), back(u.data(), n, out);
    const auto check = [&](auto& threads) {
      std::vector<float> y(n * out, 1), z(n * in, 1);
      const matrix_view<float> to_out(y.data(), n, out), to_in(z.data(), n, in);
      model::multiply<TestType>(w, rows, to_out, false, threads);
      model::multiply<TestType>(w, rows, to_out, true, threads);  // twice the product
      model::multiply_back<TestType>(w, back, to_in, threads);
      double worst = 0;
      for (std::size_t t = 0; t < n; ++t) {
        for (std::size_t o = 0; o < out; ++o) {
          double sum = 0;
          for (std::size_t i = 0; i < in; ++i) sum += double{w(o, i)} * double{rows(t, i)};
          worst = std::max(worst, std::abs(double{to_out(t, o)} - 2 * sum));
        }
        for (std::size_t i = 0; i < in; ++i) {
          double sum = 0;
          for (std::size_t o = 0; o < out; ++o) sum += double{w(o, i)} * double{back(t, o)};
          worst = std::max(worst, std::abs(double{to_in(t, i)} - sum));
        }
      }
      CHECK(worst < 1e-3);  // sums of 520 products of normal numbers: about 23
    };
    check(three);
    check(one);
  }
}
