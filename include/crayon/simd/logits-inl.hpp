// SPDX-License-Identifier: MIT
// One pass over logits. Included like elementwise-inl.hpp, and after it.

/// e^d for d in [-86, 0] in fewer steps than exp<V>: 2^n times a polynomial of degree 4 in f = d
/// log2 e - n, |f| <= 1/2, that is 1 at 0 and within 2.9e-6 of 2^f, relative (minimax, by linear
/// programming): of what the logits' own rounding does. Degree 5 costs 10 % more time.
template <class V>
CRAYON_INLINE auto exp_of_negative(typename V::vec d) noexcept {
  const auto magic = V::set(12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer
  const auto shifted = V::fma(d, V::set(1.44269504F), magic);
  const auto f = V::fma(d, V::set(1.44269504F), V::sub(magic, shifted));
  auto p = V::fma(V::set(0.009582822211F), f, V::set(0.05590673909F));
  p = V::fma(p, f, V::set(0.240241006F));
  p = V::fma(p, f, V::set(0.6931241751F));
  p = V::fma(p, f, V::set(1.0F));
  return V::times_power_of_two(p, shifted);
}

/// x - top, but at least -86: what lies below, -inf too, counts as e^-86 and not as a subnormal. A
/// NaN stays one.
template <class V>
CRAYON_INLINE auto below_top(typename V::vec x, typename V::vec top) noexcept {
  return V::max(V::set(-86.0F), V::sub(x, top));
}

template <class V>
CRAYON_INLINE void rank_lanes(const float* x, std::size_t first, std::size_t count,
                              std::span<ranked_token> likeliest) noexcept {
  for (std::size_t j = 0; j < count; ++j) {
    if (x[j] > likeliest.back().logit) put_in_order(likeliest, x[j], first + j);
  }
}

/// What each lane has seen: a softmax of its own, with its own maximum. (Without initializers: g++
/// compiles implicit constructors for the baseline.)
template <class V>
struct lane_summary {
  typename V::vec first;     ///< the largest, but at least the lowest finite number
  typename V::vec second;    ///< the second largest maximum of a block
  typename V::vec block;     ///< the first block that has `first`
  typename V::vec sum;       ///< sum exp(x - first)
  typename V::vec weighted;  ///< sum exp(x - first) (x - first)
};

/// The lanes together. Within the block and the lane of the largest logit, elements are looked at
/// again, `w` apart: for its place, and for the second largest.
template <class V>
logit_summary together(const lane_summary<V>& lanes, const float* x, std::size_t n,
                       std::size_t block) noexcept {
  constexpr std::size_t w = V::width;
  constexpr float lowest = -3.40282347e+38F;
  alignas(64) float first[w], second[w], in_block[w];
  V::store(lanes.first, first);
  V::store(lanes.second, second);
  V::store(lanes.block, in_block);
  const float top = V::reduce_max(lanes.first);
  const auto shift = below_top<V>(lanes.first, V::set(top)), scale = exp_of_negative<V>(shift);
  logit_summary seen;
  seen.top = top;
  seen.second = -__builtin_inff();
  seen.sum = double{V::reduce_add(V::mul(scale, lanes.sum))};
  const auto weighted = V::mul(scale, V::fma(shift, lanes.sum, lanes.weighted));
  seen.weighted = double{V::reduce_add(weighted)};
  if (n > 0 && !(top > lowest)) seen.sum = static_cast<double>(__builtin_nanf(""));
  seen.best = n;
  std::size_t lane = w;
  for (std::size_t l = 0; l < w; ++l) {
    if (!(first[l] == top)) continue;
    const std::size_t from = static_cast<std::size_t>(in_block[l]) * block;
    for (std::size_t j = from + l; j < n && j < seen.best && j < from + block; j += w) {
      if (x[j] == top) {
        seen.best = j;
        lane = l;
      }
    }
  }
  const auto other = [&](float value) {
    if (value > seen.second && value > lowest) seen.second = value;
  };
  for (std::size_t l = 0; l < w; ++l) {
    other(second[l]);
    if (l != lane) other(first[l]);
  }
  if (lane < w) {
    const std::size_t from = seen.best / block * block;
    for (std::size_t j = from + lane; j < n && j < from + block; j += w) {
      if (j != seen.best) other(x[j]);
    }
  } else {
    seen.best = 0;
  }
  return seen;
}

/// When a block raises a lane's maximum, that lane's sums are scaled down (Milakov, Gimelshein
/// 2018). A block stays in L1 between looking for maxima and summing, and its sums are added up
/// before they meet the others: the error of a long sum in f32 would show. 49152 logits take 7.8
/// us, 151936 take 23.9 (Zen 4 with AVX-512, one core); without the prefetch 8.4 and 25.8.
template <class V>
logit_summary summarize(const float* x, std::size_t n, std::span<ranked_token> likeliest) noexcept {
  constexpr std::size_t w = V::width, block = 2048;
  static_assert(block % (4 * w) == 0);
  for (auto& one : likeliest) one = {};
  const auto lowest = V::set(-3.40282347e+38F), zero = V::zero();
  lane_summary<V> lanes{lowest, lowest, zero, zero, zero};
  alignas(64) float rest[w];  // the last elements, and nothing
  for (std::size_t j = 0; j < w; ++j) rest[j] = j < n % w ? x[n - n % w + j] : -__builtin_inff();

  for (std::size_t from = 0; from < n; from += block) {
    const std::size_t length = n - from < block ? n - from : block, whole = length / w * w;
    const float* p = x + from;
    auto m0 = lowest, m1 = m0, m2 = m0, m3 = m0;
    std::size_t j = 0;
    for (; j + 4 * w <= whole; j += 4 * w) {
      m0 = V::max(V::load(p + j), m0);
      m1 = V::max(V::load(p + j + w), m1);
      m2 = V::max(V::load(p + j + 2 * w), m2);
      m3 = V::max(V::load(p + j + 3 * w), m3);
    }
    for (; j < whole; j += w) m0 = V::max(V::load(p + j), m0);
    if (whole < length) m1 = V::max(V::load(rest), m1);
    const auto here = V::max(V::max(m0, m1), V::max(m2, m3));
    const auto before = lanes.first, top = V::max(before, here);
    lanes.first = top;
    lanes.second = V::max(lanes.second, V::min(here, before));
    lanes.block =
        V::select_less(before, top, V::set(static_cast<float>(from / block)), lanes.block);

    if (!likeliest.empty() && V::reduce_max(here) > likeliest.back().logit) {
      // Looking at four vectors at a time was no faster.
      for (j = 0; j < whole; j += w) {
        if (V::any_less(V::set(likeliest.back().logit), V::load(p + j))) {
          rank_lanes<V>(p + j, from + j, w, likeliest);
        }
      }
      rank_lanes<V>(p + whole, from + whole, length - whole, likeliest);
    }

    auto e0 = zero, e1 = e0, e2 = e0, e3 = e0, d0 = e0, d1 = e0, d2 = e0, d3 = e0;
    const auto add = [top](typename V::vec v, auto& sum, auto& weighted) {
      const auto d = below_top<V>(v, top), e = exp_of_negative<V>(d);
      sum = V::add(sum, e);
      weighted = V::fma(e, d, weighted);
    };
    for (j = 0; j + 4 * w <= whole; j += 4 * w) {
      for (std::size_t line = 0; line < 4 * w; line += 16) {
        __builtin_prefetch(p + j + line + block);  // while there is time: the next block's maxima
      }
      add(V::load(p + j), e0, d0);
      add(V::load(p + j + w), e1, d1);
      add(V::load(p + j + 2 * w), e2, d2);
      add(V::load(p + j + 3 * w), e3, d3);
    }
    for (; j < whole; j += w) add(V::load(p + j), e0, d0);
    if (whole < length) add(V::load(rest), e1, d1);
    const auto shift = below_top<V>(before, top), scale = exp_of_negative<V>(shift);
    lanes.weighted = V::fma(scale, V::fma(shift, lanes.sum, lanes.weighted),
                            V::add(V::add(d0, d1), V::add(d2, d3)));
    lanes.sum = V::fma(scale, lanes.sum, V::add(V::add(e0, e1), V::add(e2, e3)));
  }
  return together<V>(lanes, x, n, block);
}
