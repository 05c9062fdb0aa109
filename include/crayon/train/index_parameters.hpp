// SPDX-License-Identifier: MIT
// Index vectors as parameters of a training run.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/train/trainer.hpp>

namespace crayon::train {

/// Index vectors that are trained along with the adapters.
struct trained_index {
  matrix_view<float> rows;  ///< (N, d), unit vectors
  float rate = 1;           ///< times the schedule's rate: how far a row may turn in a step
  float balance = 0;        ///< weight of `imbalance` (train/balance.hpp) in the loss
};

namespace detail {

/// The parameters behind trained index vectors: p_i = q_i / |q_i|. The length of q_i sets how far
/// a step of AdamW, whose size is that of the rate in every element, turns p_i.
class index_parameters {
 public:
  explicit index_parameters(const trained_index& from)
      : q_(from.rows.size()), d_(from.rows.size()), cols_(from.rows.cols) {
    for (std::size_t i = 0; i < from.rows.rows; ++i) {
      for (std::size_t j = 0; j < cols_; ++j) q_[i * cols_ + j] = from.rows(i, j) / from.rate;
    }
  }

  [[nodiscard]] parameter_group group() noexcept { return {q_, d_, false}; }

  void store(matrix_view<float> index) const noexcept {
    for (std::size_t i = 0; i < index.rows; ++i) {
      const double length = length_of(i);
      for (std::size_t j = 0; j < cols_; ++j) {
        index(i, j) = static_cast<float>(double{q_[i * cols_ + j]} / length);
      }
    }
  }

  /// dq_i = (dp_i - p_i (p_i . dp_i)) / |q_i|. An error where it is not finite.
  [[nodiscard]] result<void> gradient(matrix_view<const float> index,
                                      matrix_view<const float> d_index) {
    for (std::size_t i = 0; i < index.rows; ++i) {
      double along = 0;
      for (std::size_t j = 0; j < cols_; ++j) along += double{index(i, j)} * double{d_index(i, j)};
      if (!std::isfinite(along)) {
        return error{errc::bad_value,
                     "the gradient of index vector " + std::to_string(i) + " is not finite"};
      }
      const double length = length_of(i);
      for (std::size_t j = 0; j < cols_; ++j) {
        d_[i * cols_ + j] =
            static_cast<float>((double{d_index(i, j)} - double{index(i, j)} * along) / length);
      }
    }
    return {};
  }

 private:
  [[nodiscard]] double length_of(std::size_t i) const noexcept {
    double squares = 0;
    for (std::size_t j = 0; j < cols_; ++j) {
      squares += double{q_[i * cols_ + j]} * double{q_[i * cols_ + j]};
    }
    return squares > 0 ? std::sqrt(squares) : 1;
  }

  aligned_vector<float> q_, d_;
  std::size_t cols_;
};

/// Hooks of a run, with one more gradient before the others' turn.
template <class Hooks, class Gradient>
struct extra_gradient {
  Hooks& outer;
  Gradient& gradient;

  [[nodiscard]] result<std::size_t> begin(std::span<const parameter_group> groups,
                                          adamw& optimizer) {
    return outer.begin(groups, optimizer);
  }
  [[nodiscard]] result<void> after_gradient() {
    CRAYON_CHECK(gradient());
    return outer.after_gradient();
  }
  [[nodiscard]] result<void> after_step(const training_progress& now,
                                        std::span<const parameter_group> groups,
                                        const adamw& optimizer) {
    return outer.after_step(now, groups, optimizer);
  }
};

}  // namespace detail

}  // namespace crayon::train
