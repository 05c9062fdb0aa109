// SPDX-License-Identifier: MIT
// Scores that say little about any one sample: Gaussian noise with a stated (epsilon, delta).
#pragma once

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/function_ref.hpp>
#include <crayon/core/result.hpp>
#include <crayon/match/centroid.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/top_k.hpp>

namespace crayon::match {

/// What one request promises: whatever a receiver concludes from it, it would have concluded with
/// almost the same probability (a factor of e^epsilon, but for delta) had any one of the samples
/// been another. The promise is per request: k requests with other noise about the same samples
/// promise k epsilon and k delta. The number of samples is not hidden.
struct privacy {
  double epsilon = 1;
  double delta = 1e-5;
};

/// By how much the scores can change, in the Euclidean norm, when one of n samples is replaced.
///
/// The scores are w = (1/n) sum_j s(x_j), and each s(x_j) (a softmax, or a vote) lies in the
/// simplex: elements of at least 0 with sum 1. Replacing x_k by x' changes w by (s(x') - s(x_k))/n.
/// For p and q in the simplex |p - q|^2 = |p|^2 + |q|^2 - 2 p.q <= 1 + 1 - 0, as |p|^2 <= sum p = 1
/// and p.q >= 0; two different corners reach it. So it is sqrt(2) / n, for any number of adapters,
/// any temperature and any embedding.
[[nodiscard]] inline double score_sensitivity(std::size_t samples) noexcept {
  CRAYON_ASSERT(samples > 0);
  return std::sqrt(2.0) / static_cast<double>(samples);
}

/// The delta that Gaussian noise has at this epsilon, exactly (Balle and Wang, "Improving the
/// Gaussian Mechanism for Differential Privacy", 2018, theorem 8). `ratio`: sensitivity / sigma.
[[nodiscard]] inline double gaussian_delta(double epsilon, double ratio) noexcept {
  const auto phi = [](double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; };
  return phi(ratio / 2 - epsilon / ratio) -
         std::exp(epsilon) * phi(-ratio / 2 - epsilon / ratio);
}

/// The smallest standard deviation that keeps the promise. The classical formula,
/// sensitivity sqrt(2 ln(1.25 / delta)) / epsilon, holds for epsilon < 1 only and is larger there.
/// Errors: an epsilon that is not in (0, 100], a delta that is not in (0, 1).
[[nodiscard]] inline result<double> gaussian_sigma(const privacy& p, double sensitivity) {
  if (!(p.epsilon > 0 && p.epsilon <= 100)) {
    return error{errc::bad_value, "epsilon is " + std::to_string(p.epsilon) +
                                      ", needs a number above 0 and up to 100"};
  }
  if (!(p.delta > 0 && p.delta < 1)) {
    return error{errc::bad_value,
                 "delta is " + std::to_string(p.delta) + ", needs a number between 0 and 1"};
  }
  double low = 1e-9, high = 1e9;  // of sigma / sensitivity; delta falls as sigma grows
  for (int i = 0; i < 200 && high / low > 1 + 1e-12; ++i) {
    const double middle = std::sqrt(low * high);
    (gaussian_delta(p.epsilon, 1 / middle) > p.delta ? low : high) = middle;
  }
  return high * sensitivity;
}

/// 64 random bits.
using random_bits = function_ref<std::uint64_t()>;

/// Adds independent N(0, sigma^2) to each score (Box-Muller, in double).
inline void add_noise(std::span<double> scores, double sigma, random_bits bits) {
  for (double& score : scores) {
    const double u = (static_cast<double>(bits() >> 11) + 1.0) * 0x1p-53;
    const double v = static_cast<double>(bits() >> 11) * 0x1p-53;
    score += sigma * std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
  }
}

/// The nearest scores of at least 0 with sum 1 (Duchi et al. 2008): small ones become 0. What is
/// done to noisy scores without looking at the samples again keeps the promise.
[[nodiscard]] inline std::vector<float> nearest_scores(std::span<const double> noisy) {
  std::vector<double> sorted(noisy.begin(), noisy.end());
  std::sort(sorted.begin(), sorted.end(), [](double a, double b) { return a > b; });
  double sum = 0, shift = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    sum += sorted[i];
    const double candidate = (sum - 1) / static_cast<double>(i + 1);
    if (sorted[i] - candidate > 0) shift = candidate;
  }
  std::vector<float> scores(noisy.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] = static_cast<float>(std::clamp(noisy[i] - shift, 0.0, 1.0));
  }
  return scores;
}

/// The operating system's randomness, drawn before it is needed.
class os_random {
 public:
  /// Room for `count` calls. Error: the system has none to give.
  [[nodiscard]] static result<os_random> draw(std::size_t count) {
    os_random source;
    source.words_.resize(count);
    auto* memory = reinterpret_cast<char*>(source.words_.data());
    for (std::size_t done = 0, all = count * sizeof(std::uint64_t); done < all;) {
      const auto got = ::getrandom(memory + done, all - done, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return error{errc::io_failed,
                     "no random numbers: " + std::generic_category().message(errno)};
      }
      done += static_cast<std::size_t>(got);
    }
    return source;
  }

  std::uint64_t operator()() noexcept {
    CRAYON_ASSERT(next_ < words_.size());
    return words_[next_++];
  }

 private:
  std::vector<std::uint64_t> words_;
  std::size_t next_ = 0;
};

/// Matchers whose weights are a mean over the samples of points of the simplex.
template <class M>
inline constexpr bool averages_samples = false;
template <>
inline constexpr bool averages_samples<cosine_softmax> = true;
template <>
inline constexpr bool averages_samples<centroid> = true;

/// A matcher's weights with noise, on the device, before anything is sent. The noise is added to
/// the means in float (rounding in the last place is not part of the promise, see Mironov 2012) and
/// comes from the operating system; a test may pass its own.
template <matcher M>
[[nodiscard]] result<std::vector<float>> private_weights(const M& m,
                                                         matrix_view<const float> index,
                                                         matrix_view<const float> samples,
                                                         const privacy& p, random_bits bits) {
  static_assert(averages_samples<M>, "no bound is known on what one sample changes");
  CRAYON_TRY(const double sigma, gaussian_sigma(p, score_sensitivity(samples.rows)));
  const std::vector<float> w = m.weights(index, samples);
  std::vector<double> noisy(w.begin(), w.end());
  add_noise(noisy, sigma, bits);
  return nearest_scores(noisy);
}
/// The choice of the largest is made after the noise: made before, one sample could change it all.
[[nodiscard]] inline result<std::vector<float>> private_weights(const top_k& m,
                                                                matrix_view<const float> index,
                                                                matrix_view<const float> samples,
                                                                const privacy& p,
                                                                random_bits bits) {
  CRAYON_TRY(std::vector<float> w,
             private_weights(cosine_softmax{m.tau}, index, samples, p, bits));
  keep_largest(w, m.k);
  return w;
}
template <matcher M>
[[nodiscard]] result<std::vector<float>> private_weights(const M& m,
                                                         matrix_view<const float> index,
                                                         matrix_view<const float> samples,
                                                         const privacy& p) {
  CRAYON_TRY(os_random bits, os_random::draw(2 * index.rows));
  return private_weights(m, index, samples, p, random_bits(bits));
}

}  // namespace crayon::match
