// SPDX-License-Identifier: MIT
// Random adapters, and the weight change of anything that has factors, in double.
#pragma once

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/core/rng.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace crayon_test {

using crayon::element;
using crayon::from_float;
using crayon::to_float;

/// Some sites of random shapes, ranks and scales.
inline std::vector<crayon::adapter::site_shape> random_shapes(crayon::rng& random) {
  std::vector<crayon::adapter::site_shape> shapes;
  const std::size_t sites = 1 + random.below(4);
  for (std::size_t i = 0; i < sites; ++i) {
    shapes.push_back({"layers." + std::to_string(i) + ".q_proj", 1 + random.below(70),
                      1 + random.below(70), 1 + random.below(9), 0.25F + random.uniform()});
  }
  return shapes;
}

template <element E>
crayon::adapter::lora_adapter<E> random_adapter(std::vector<crayon::adapter::site_shape> shapes,
                                                crayon::rng& random) {
  crayon::adapter::lora_adapter<E> adapter(std::move(shapes));
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    for (auto m : {adapter.a(i), adapter.b(i)}) {
      for (std::size_t j = 0; j < m.size(); ++j) m.data[j] = from_float<E>(random.normal());
    }
  }
  return adapter;
}

/// sum += weight * scale * B A, as (out, in).
template <element E>
void add_delta(std::vector<double>& sum, crayon::factors_view<E> f, double weight = 1) {
  sum.resize(f.b.rows * f.a.cols);
  for (std::size_t o = 0; o < f.b.rows; ++o) {
    for (std::size_t r = 0; r < f.rank(); ++r) {
      const double left = weight * double{f.scale} * double{to_float(f.b(o, r))};
      for (std::size_t i = 0; i < f.a.cols; ++i) {
        sum[o * f.a.cols + i] += left * double{to_float(f.a(r, i))};
      }
    }
  }
}

template <element E>
std::vector<double> delta(crayon::factors_view<E> f, double weight = 1) {
  std::vector<double> sum;
  add_delta(sum, f, weight);
  return sum;
}

inline double norm(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x * x;
  return std::sqrt(sum);
}

inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> d(a.size());
  for (std::size_t i = 0; i < d.size(); ++i) d[i] = a[i] - b[i];
  return norm(d);
}

/// The same bytes, sites, ranks and scales.
template <element E>
bool same(const crayon::adapter::lora_adapter<E>& x, const crayon::adapter::lora_adapter<E>& y) {
  if (x.shapes() != y.shapes()) return false;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto f = x.factors(i), g = y.factors(i);
    for (std::size_t j = 0; j < f.a.size(); ++j) {
      if (to_float(f.a.data[j]) != to_float(g.a.data[j])) return false;
    }
    for (std::size_t j = 0; j < f.b.size(); ++j) {
      if (to_float(f.b.data[j]) != to_float(g.b.data[j])) return false;
    }
  }
  return true;
}

}  // namespace crayon_test
