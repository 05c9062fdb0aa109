// SPDX-License-Identifier: MIT
// Training sequences of different lengths, packed row after row without padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/model/llama_config.hpp>

namespace crayon::train {

/// A target of a row that has no loss; not -1, which a caller may pass for an unknown token.
inline constexpr std::int32_t no_target = std::numeric_limits<std::int32_t>::min();

/// Sequences laid end to end. A sequence of n tokens gives n - 1 rows: row j reads token j and is
/// scored on token j + 1 where the mask says so. Positions start at 0 in each sequence.
class packed_batch {
 public:
  packed_batch() = default;

  /// Keeps the memory.
  void clear() noexcept {
    inputs_.clear();
    targets_.clear();
    offsets_.assign(1, 0);
    loss_rows_ = 0;
  }

  /// Scores tokens[first_scored ...]: the completion that follows a prompt of that many tokens.
  void add(std::span<const std::int32_t> tokens, std::size_t first_scored) {
    append(tokens, [&](std::size_t j) { return j >= first_scored; });
  }

  /// Scores the tokens whose mask is not 0; the first token is never scored.
  /// Precondition: mask.size() == tokens.size().
  void add(std::span<const std::int32_t> tokens, std::span<const std::uint8_t> mask) {
    CRAYON_ASSERT(mask.size() == tokens.size());
    append(tokens, [&](std::size_t j) { return mask[j] != 0; });
  }

  [[nodiscard]] std::size_t sequences() const noexcept { return offsets_.size() - 1; }
  [[nodiscard]] std::size_t rows() const noexcept { return inputs_.size(); }
  [[nodiscard]] std::size_t loss_rows() const noexcept { return loss_rows_; }

  /// One token id per row.
  [[nodiscard]] std::span<const std::int32_t> inputs() const noexcept { return inputs_; }
  /// The token that a row is scored on, or no_target.
  [[nodiscard]] std::span<const std::int32_t> targets() const noexcept { return targets_; }
  /// Sequence s has the rows [offsets()[s], offsets()[s + 1]).
  [[nodiscard]] std::span<const std::size_t> offsets() const noexcept { return offsets_; }

  /// Whether that model can be trained on it; the error names the sequence and both values.
  [[nodiscard]] result<void> check(const model::llama_config& config) const {
    if (loss_rows_ == 0) return error{errc::bad_value, "the batch has no scored token"};
    for (std::size_t s = 0; s < sequences(); ++s) {
      const std::size_t length = offsets_[s + 1] - offsets_[s];
      if (length > config.context) {
        return error{errc::bad_shape, "sequence " + std::to_string(s) + " has " +
                                          std::to_string(length) + " positions, the context is " +
                                          std::to_string(config.context)};
      }
      for (std::size_t row = offsets_[s]; row < offsets_[s + 1]; ++row) {
        const auto bad = [&](std::int32_t id) {
          return id < 0 || static_cast<std::size_t>(id) >= config.vocab;
        };
        const bool scored = targets_[row] != no_target;
        if (bad(inputs_[row]) || (scored && bad(targets_[row]))) {
          const std::int32_t id = bad(inputs_[row]) ? inputs_[row] : targets_[row];
          return error{errc::bad_value, "sequence " + std::to_string(s) + " has token id " +
                                            std::to_string(id) + ", the vocabulary has " +
                                            std::to_string(config.vocab)};
        }
      }
    }
    return {};
  }

 private:
  template <class Scored>
  void append(std::span<const std::int32_t> tokens, Scored scored) {
    for (std::size_t j = 0; j + 1 < tokens.size(); ++j) {
      inputs_.push_back(tokens[j]);
      const bool use = scored(j + 1);
      targets_.push_back(use ? tokens[j + 1] : no_target);
      loss_rows_ += use ? 1 : 0;
    }
    offsets_.push_back(inputs_.size());
  }

  std::vector<std::int32_t> inputs_, targets_;
  std::vector<std::size_t> offsets_ = {0};
  std::size_t loss_rows_ = 0;
};

/// Consecutive sequences of a batch: what one forward and backward pass works on.
struct batch_view {
  std::span<const std::int32_t> inputs;   ///< rows
  std::span<const std::int32_t> targets;  ///< rows
  std::span<const std::size_t> offsets;   ///< sequences + 1, counted from the whole batch's rows
  std::size_t first_sequence = 0;

  [[nodiscard]] std::size_t rows() const noexcept { return inputs.size(); }
  [[nodiscard]] std::size_t sequences() const noexcept { return offsets.size() - 1; }
  /// First row of sequence s of this view, counted from the view's first row.
  [[nodiscard]] std::size_t begin(std::size_t s) const noexcept { return offsets[s] - offsets[0]; }
  [[nodiscard]] std::size_t length(std::size_t s) const noexcept {
    return offsets[s + 1] - offsets[s];
  }
};

/// Sequences [first, last) of `batch`.
[[nodiscard]] inline batch_view sequences_of(const packed_batch& batch, std::size_t first,
                                             std::size_t last) noexcept {
  const auto offsets = batch.offsets();
  const std::size_t row = offsets[first], rows = offsets[last] - row;
  return {batch.inputs().subspan(row, rows), batch.targets().subspan(row, rows),
          offsets.subspan(first, last - first + 1), first};
}

}  // namespace crayon::train
