// SPDX-License-Identifier: MIT
// Quantiles of a stream of log-probabilities in fixed memory.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <crayon/core/config.hpp>

namespace crayon::router {

/// Counts log-probabilities l <= 0 in buckets whose bounds grow by gamma = (1 + a) / (1 - a), a = 2
/// %, from 2^-10 nats on (DDSketch: Masson, Rim, Lee 2019): `quantile` is within 2 % of the value
/// that an array of all of them, sorted, has at that place. Values nearer to 0 than 2^-10 count as
/// 0, those below -31 nats as about -31. 1 KB, no allocation.
class log_prob_sketch {
 public:
  static constexpr double accuracy = 0.02, smallest = 0x1p-10, largest = 31;

  /// A NaN is not counted.
  void add(float log_prob) noexcept {
    if (log_prob != log_prob) return;
    ++count_;
    ++counts_[bucket_of(-double{log_prob})];
  }

  [[nodiscard]] std::size_t count() const noexcept { return count_; }

  /// The value of rank floor(q (count - 1)) from below, q in [0, 1]; there must be one.
  [[nodiscard]] float quantile(double q) const noexcept {
    CRAYON_ASSERT(count_ > 0 && q >= 0 && q <= 1);
    // From below in log-probability is from above in buckets.
    auto left = static_cast<std::size_t>(q * static_cast<double>(count_ - 1));
    std::size_t b = buckets;
    while (--b > 0 && left >= counts_[b]) left -= counts_[b];
    if (b == 0) return 0;
    // Within `accuracy` of both bounds of the bucket.
    const double upper = smallest * std::exp(static_cast<double>(b) * log_gamma);
    return static_cast<float>(-upper * (1 - accuracy));
  }

 private:
  static constexpr double log_gamma = 0.040005334613699;  // log(1.02 / 0.98)
  // 31 <= 2^-10 gamma^260; bucket 0 is for what counts as 0.
  static constexpr std::size_t buckets = 261;

  [[nodiscard]] static std::size_t bucket_of(double x) noexcept {
    if (!(x > smallest)) return 0;
    const double b = std::ceil(std::log(std::min(x, largest) / smallest) / log_gamma);
    return std::min(static_cast<std::size_t>(std::max(b, 1.0)), buckets - 1);
  }

  std::array<std::uint32_t, buckets> counts_{};
  std::size_t count_ = 0;
};

}  // namespace crayon::router
