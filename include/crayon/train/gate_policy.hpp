// SPDX-License-Identifier: MIT
// From the embeddings of a user's samples to the adapter weights that each of them trains with.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/match/uniform.hpp>

namespace crayon::train {

/// Gives each sample of a group (the samples of one real or simulated user) its adapter weights.
template <class G, class M>
concept gate_policy = requires(const G& g, const M& matcher, matrix_view<const float> index,
                               matrix_view<const float> samples, matrix_view<float> weights) {
  { G::name() } -> std::convertible_to<std::string_view>;
  // index (N, d), samples (S, d) -> weights (S, N)
  g(matcher, index, samples, weights);
};

/// A matcher whose weights can be differentiated by the index vectors.
template <class M>
concept differentiable_matcher = matcher<M> &&
    requires(const M& m, matrix_view<const float> index, matrix_view<const float> samples,
             std::span<const float> d_weights, matrix_view<float> d_index) {
  m.backward(index, samples, d_weights, d_index);  // d_index (N, d) += from d_weights (N)
};

/// A gate policy through which gradients reach the index vectors.
template <class G, class M>
concept differentiable_gate_policy = gate_policy<G, M> && differentiable_matcher<M> &&
    requires(const G& g, const M& matcher, matrix_view<const float> index,
             matrix_view<const float> samples, matrix_view<const float> d_weights,
             matrix_view<float> d_index) {
  // d_weights (S, N) of the weights that the policy gave -> added to d_index (N, d)
  g.backward(matcher, index, samples, d_weights, d_index);
};

/// As deployment does it for a query whose answer is not known: the matcher sees the group's other
/// samples. A group of one falls back to its own sample.
struct leave_one_out {
  static constexpr std::string_view name() noexcept { return "leave_one_out"; }

  template <matcher M>
  void operator()(const M& match, matrix_view<const float> index, matrix_view<const float> samples,
                  matrix_view<float> weights) const {
    for_each_rest(samples, [&](std::size_t s, matrix_view<const float> others) {
      const std::vector<float> w = match.weights(index, others);
      std::copy_n(w.data(), weights.cols, weights.row(s));
    });
  }

  template <differentiable_matcher M>
  void backward(const M& match, matrix_view<const float> index, matrix_view<const float> samples,
                matrix_view<const float> d_weights, matrix_view<float> d_index) const {
    for_each_rest(samples, [&](std::size_t s, matrix_view<const float> others) {
      match.backward(index, others, {d_weights.row(s), d_weights.cols}, d_index);
    });
  }

 private:
  template <class Use>
  static void for_each_rest(matrix_view<const float> samples, Use&& use) {
    std::vector<float> others(samples.rows * samples.cols);
    for (std::size_t s = 0; s < samples.rows; ++s) {
      std::size_t count = 0;
      for (std::size_t o = 0; o < samples.rows; ++o) {
        if (o == s && samples.rows > 1) continue;
        std::copy_n(samples.row(o), samples.cols, others.data() + count++ * samples.cols);
      }
      use(s, matrix_view<const float>(others.data(), count, samples.cols));
    }
  }
};

/// All samples of the group train with the weights of the whole group, the scored one included.
struct whole_group {
  static constexpr std::string_view name() noexcept { return "whole_group"; }

  template <matcher M>
  void operator()(const M& match, matrix_view<const float> index, matrix_view<const float> samples,
                  matrix_view<float> weights) const {
    const std::vector<float> w = match.weights(index, samples);
    for (std::size_t s = 0; s < samples.rows; ++s) {
      std::copy_n(w.data(), weights.cols, weights.row(s));
    }
  }

  template <differentiable_matcher M>
  void backward(const M& match, matrix_view<const float> index, matrix_view<const float> samples,
                matrix_view<const float> d_weights, matrix_view<float> d_index) const {
    std::vector<float> sum(d_weights.cols);
    for (std::size_t s = 0; s < samples.rows; ++s) {
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += d_weights(s, i);
    }
    match.backward(index, samples, sum, d_index);
  }
};

/// Each sample trains with the weights of its own embedding; deployment averages them, so the two
/// differ (the baseline).
struct per_sample {
  static constexpr std::string_view name() noexcept { return "per_sample"; }

  template <matcher M>
  void operator()(const M& match, matrix_view<const float> index, matrix_view<const float> samples,
                  matrix_view<float> weights) const {
    for (std::size_t s = 0; s < samples.rows; ++s) {
      const std::vector<float> w = match.weights(index, samples.rows_from(s, 1));
      std::copy_n(w.data(), weights.cols, weights.row(s));
    }
  }

  template <differentiable_matcher M>
  void backward(const M& match, matrix_view<const float> index, matrix_view<const float> samples,
                matrix_view<const float> d_weights, matrix_view<float> d_index) const {
    for (std::size_t s = 0; s < samples.rows; ++s) {
      match.backward(index, samples.rows_from(s, 1), {d_weights.row(s), d_weights.cols}, d_index);
    }
  }
};
static_assert(gate_policy<leave_one_out, match::uniform>);
static_assert(gate_policy<whole_group, match::uniform>);
static_assert(gate_policy<per_sample, match::uniform>);

}  // namespace crayon::train
