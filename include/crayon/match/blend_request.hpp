// SPDX-License-Identifier: MIT
// All that leaves a device whose pool is elsewhere: one score per adapter and the pool's hash.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <crayon/core/result.hpp>

namespace crayon::match {

/// How a score travels: as it is, or as a share of the largest one in 1/255.
enum class score_encoding : std::uint8_t { f32, u8 };

/// N scores of a pool's adapters, at least 0 and with sum 1, and the hash of the pool that they are
/// about. There is no room for anything else, neither in the type nor in its bytes:
///   8 bytes    hash, little endian
///   N or 4 N   scores, U8 or F32 little endian
/// The encoding is not among them, it is the HTTP body's content type.
class blend_request {
 public:
  static constexpr std::size_t most_scores = 1024;

  /// Errors: no scores or more than `most_scores`; one that is not from 0 to 1; a sum that is not 1
  /// (within 1e-3). With u8 the scores are rounded here, so that both sides see the same.
  [[nodiscard]] static result<blend_request> make(std::uint64_t pool, std::span<const float> scores,
                                                  score_encoding encoding) {
    CRAYON_CHECK(check_count(scores.size()));
    double sum = 0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      if (!(scores[i] >= 0 && scores[i] <= 1)) {  // also when it is NaN
        return error{errc::bad_value, "score " + std::to_string(i) + " is " +
                                          std::to_string(scores[i]) +
                                          ", needs a number from 0 to 1"};
      }
      sum += double{scores[i]};
    }
    if (std::abs(sum - 1) > 1e-3) {
      return error{errc::bad_value, "the scores have sum " + std::to_string(sum) + ", needs 1"};
    }
    blend_request made(pool, scores.size(), encoding);
    std::copy(scores.begin(), scores.end(), made.scores_.begin());
    if (encoding == score_encoding::u8) {
      std::array<std::uint8_t, most_scores> shares;
      made.quantize(shares);
      made.dequantize(shares);
    }
    return made;
  }

  /// From what `bytes` gives. Errors: also a length that is no such request.
  [[nodiscard]] static result<blend_request> read(std::string_view bytes, score_encoding encoding) {
    const std::size_t width = width_of(encoding);
    const std::size_t rest = bytes.size() < 8 ? 0 : bytes.size() - 8;
    if (bytes.size() < 8 || rest % width != 0) {
      return error{errc::bad_format, std::to_string(bytes.size()) +
                                         " bytes are no hash of 8 and scores of " +
                                         std::to_string(width)};
    }
    const std::size_t count = rest / width;
    CRAYON_CHECK(check_count(count));
    std::uint64_t pool = 0;
    std::memcpy(&pool, bytes.data(), 8);
    if (encoding == score_encoding::f32) {
      std::array<float, most_scores> scores;
      std::memcpy(scores.data(), bytes.data() + 8, rest);
      return make(pool, {scores.data(), count}, encoding);
    }
    std::array<std::uint8_t, most_scores> shares;
    std::memcpy(shares.data(), bytes.data() + 8, rest);
    const auto largest = *std::max_element(shares.begin(), shares.begin() + rest);
    if (largest != 255) {
      return error{errc::bad_value, "the largest score is " + std::to_string(largest) +
                                        ", needs 255: scores are shares of it"};
    }
    blend_request made(pool, count, encoding);
    made.dequantize(shares);
    return made;
  }

  [[nodiscard]] std::uint64_t pool() const noexcept { return pool_; }
  [[nodiscard]] score_encoding encoding() const noexcept { return encoding_; }
  /// N
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  /// As the blend is made with.
  [[nodiscard]] std::span<const float> scores() const noexcept { return {scores_.data(), count_}; }

  /// What goes over the wire.
  [[nodiscard]] std::string bytes() const {
    std::string out(8 + count_ * width_of(encoding_), '\0');
    std::memcpy(out.data(), &pool_, 8);
    if (encoding_ == score_encoding::f32) {
      std::memcpy(out.data() + 8, scores_.data(), count_ * sizeof(float));
    } else {
      std::array<std::uint8_t, most_scores> shares;
      quantize(shares);
      std::memcpy(out.data() + 8, shares.data(), count_);
    }
    return out;
  }

  [[nodiscard]] static constexpr std::size_t width_of(score_encoding encoding) noexcept {
    return encoding == score_encoding::f32 ? sizeof(float) : 1;
  }

 private:
  blend_request(std::uint64_t pool, std::size_t count, score_encoding encoding) noexcept
      : pool_(pool), count_(static_cast<std::uint32_t>(count)), encoding_(encoding) {}

  [[nodiscard]] static result<void> check_count(std::size_t count) {
    if (count != 0 && count <= most_scores) return {};
    return error{errc::bad_shape, std::to_string(count) + " scores, needs 1 to " +
                                      std::to_string(most_scores)};
  }

  /// Scores that come from `dequantize` give their shares back: the largest of those is 255.
  void quantize(std::array<std::uint8_t, most_scores>& shares) const noexcept {
    const float largest = *std::max_element(scores_.begin(), scores_.begin() + count_);
    for (std::size_t i = 0; i < count_; ++i) {
      shares[i] = static_cast<std::uint8_t>(255 * scores_[i] / largest + 0.5F);
    }
  }

  void dequantize(const std::array<std::uint8_t, most_scores>& shares) noexcept {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < count_; ++i) sum += shares[i];
    for (std::size_t i = 0; i < count_; ++i) {
      scores_[i] = static_cast<float>(shares[i]) / static_cast<float>(sum);
    }
  }

  std::uint64_t pool_;
  std::uint32_t count_;
  score_encoding encoding_;
  std::array<float, most_scores> scores_{};
};

static_assert(std::endian::native == std::endian::little, "the bytes are little endian");
static_assert(std::numeric_limits<float>::is_iec559);
// No pointer to anything, and no byte beside the hash, the count, the encoding and the scores.
static_assert(std::is_trivially_copyable_v<blend_request>);
static_assert(std::is_standard_layout_v<blend_request>);
static_assert(sizeof(blend_request) == 8 + 4 + 4 + 4 * blend_request::most_scores);
static_assert(!std::is_constructible_v<blend_request, std::string> &&
              !std::is_constructible_v<blend_request, std::string_view> &&
              !std::is_constructible_v<blend_request, const char*>);

}  // namespace crayon::match
