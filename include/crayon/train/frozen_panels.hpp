// SPDX-License-Identifier: MIT
// The projections of a frozen model as products read them fastest, with adapters merged in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/train/base_weights.hpp>
#include <crayon/train/gated_lora.hpp>

namespace crayon::train {

/// Each projection W (out, in) twice in f32, as W^T for the forward pass and as W for the backward
/// pass, both cut into panels of 48 columns that lie without gaps: products need not pack them.
/// Where all sequences of a batch have the same adapter weights, W is the merged matrix
/// W + B_cat G A_cat: made once per batch, it replaces two products of low rank per pass.
class frozen_panels {
 public:
  /// A multiple of the widest tile of every instruction set.
  static constexpr std::size_t width = 48;

  frozen_panels() = default;

  /// What they take.
  [[nodiscard]] static std::size_t bytes_of(const model::llama_config& config) noexcept {
    std::size_t count = 0;
    for (std::size_t s = 0; s < config.sites(); ++s) count += size_of(config, s);
    return 2 * count * sizeof(float);
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return (panels_.size() + gated_.size()) * sizeof(float);
  }
  [[nodiscard]] bool empty() const noexcept { return panels_.empty(); }

  /// Whether adapters are in the matrices.
  [[nodiscard]] bool merged() const noexcept { return merged_; }

  /// Makes the panels of `weights`, which must stay as they are; with `factors`, these are merged
  /// in with the adapter weights w (N), or taken out again where w is null.
  template <kernel_backend B, executor X>
  void hold(const base_weights& weights, const lora_factors* factors, const float* w, X& tasks) {
    const auto& config = weights.config();
    if (panels_.empty()) {
      for (std::size_t s = 0, offset = 0; s < config.sites(); ++s) {
        offsets_.push_back(offset);
        offset += 2 * size_of(config, s);
      }
      panels_.resize(bytes_of(config) / sizeof(float));
      state_.assign(config.sites(), state::unknown);
    }
    merged_ = factors != nullptr && w != nullptr;
    if (merged_) gated_.resize(factors->values().size());
    tasks.parallel_for(config.sites(), [&](std::size_t s) {
      const lora_site* site = merged_ ? factors->find(s) : nullptr;
      if (site == nullptr && state_[s] == state::plain) return;
      const auto layer = model::llama_config::layer_of(s);
      const base_matrix matrix = weights.linear(layer, model::llama_config::projection_of(s));
      copy_in(matrix, backward_of(s, matrix));
      if (site != nullptr) merge<B>(*site, factors->values().data(), w, backward_of(s, matrix));
      transpose(matrix, backward_of(s, matrix), forward_of(s));
      state_[s] = site == nullptr ? state::plain : state::merged;
    });
  }

  /// y (+)= x W^T
  template <kernel_backend B>
  void forward(std::size_t site, const base_matrix& w, matrix_view<const float> x,
               matrix_view<float> y, bool accumulate) const {
    product<B>(forward_of(site), x, w.cols, y, accumulate);
  }

  /// dx (+)= dy W
  template <kernel_backend B>
  void backward(std::size_t site, const base_matrix& w, matrix_view<const float> dy,
                matrix_view<float> dx, bool accumulate) const {
    product<B>(backward_of(site, w), dy, w.rows, dx, accumulate);
  }

 private:
  enum class state : std::uint8_t { unknown, plain, merged };

  static std::size_t size_of(const model::llama_config& c, std::size_t site) noexcept {
    const auto p = model::llama_config::projection_of(site);
    return c.out(p) * c.in(p);
  }

  /// out panels of (in, 48)
  template <class Self>
  static auto* at(Self& self, std::size_t offset) noexcept {
    return self.panels_.data() + offset;
  }
  [[nodiscard]] const float* forward_of(std::size_t s) const noexcept {
    return at(*this, offsets_[s]);
  }
  [[nodiscard]] float* forward_of(std::size_t s) noexcept { return at(*this, offsets_[s]); }
  /// in panels of (out, 48)
  [[nodiscard]] const float* backward_of(std::size_t s, const base_matrix& w) const noexcept {
    return at(*this, offsets_[s] + w.rows * w.cols);
  }
  [[nodiscard]] float* backward_of(std::size_t s, const base_matrix& w) noexcept {
    return at(*this, offsets_[s] + w.rows * w.cols);
  }

  /// y (+)= x P, where P (depth, y.cols) lies in panels.
  template <kernel_backend B>
  static void product(const float* panels, matrix_view<const float> x, std::size_t depth,
                      matrix_view<float> y, bool accumulate) {
    for (std::size_t j = 0; j < y.cols; j += width) {
      const std::size_t cols = std::min(width, y.cols - j);
      B::gemm_nn(x, matrix_view<const float>(panels + depth * j, depth, cols),
                 matrix_view<float>(y.data + j, y.rows, cols, y.stride), accumulate);
    }
  }

  static void copy_in(const base_matrix& w, float* panels) {
    w.visit([&](auto matrix) {
      for (std::size_t j = 0; j < matrix.cols; j += width) {
        const std::size_t cols = std::min(width, matrix.cols - j);
        float* to = panels + matrix.rows * j;
        for (std::size_t r = 0; r < matrix.rows; ++r, to += cols) {
          const auto* from = matrix.row(r) + j;
          for (std::size_t c = 0; c < cols; ++c) to[c] = to_float(from[c]);
        }
      }
    });
  }

  /// W += B_cat G A_cat, with G A_cat made first.
  template <kernel_backend B>
  void merge(const lora_site& site, const float* factors, const float* w, float* panels) {
    const matrix_view<float> gated(gated_.data() + site.a, site.total, site.in);
    gate_factors(site, w, {factors + site.a, site.total, site.in}, gated);
    const matrix_view<const float> b(factors + site.b, site.total, site.out);
    for (std::size_t j = 0; j < site.in; j += width) {
      const std::size_t cols = std::min(width, site.in - j);
      B::gemm_tn(b, matrix_view<const float>(gated.data + j, site.total, cols, site.in),
                 matrix_view<float>(panels + site.out * j, site.out, cols), true);
    }
  }

  static void gate_factors(const lora_site& site, const float* w, matrix_view<const float> a,
                           matrix_view<float> gated) noexcept {
    if (!site.factor_wise) {
      for (std::size_t c = 0; c < site.total; ++c) {
        const float gate = site.scale * w[c / site.rank];
        for (std::size_t j = 0; j < site.in; ++j) gated(c, j) = gate * a(c, j);
      }
      return;
    }
    // Row c of adapter i: scale w_i sum_k w_k A_k. The sums are made in the rows of adapter 0.
    for (std::size_t c = 0; c < site.rank; ++c) {
      float* sum = gated.row(c);
      for (std::size_t j = 0; j < site.in; ++j) sum[j] = w[0] * a(c, j);
      for (std::size_t d = c + site.rank; d < site.total; d += site.rank) {
        for (std::size_t j = 0; j < site.in; ++j) sum[j] += w[d / site.rank] * a(d, j);
      }
    }
    for (std::size_t c = site.total; c-- > 0;) {
      const float gate = site.scale * w[c / site.rank];
      for (std::size_t j = 0; j < site.in; ++j) gated(c, j) = gate * gated(c % site.rank, j);
    }
  }

  /// Panels of W^T from those of W (out, in).
  static void transpose(const base_matrix& w, const float* from, float* to) noexcept {
    for (std::size_t q = 0; q < w.rows; q += width) {
      const std::size_t height = std::min(width, w.rows - q);
      for (std::size_t p = 0; p < w.cols; p += width) {
        const std::size_t cols = std::min(width, w.cols - p);
        const float* CRAYON_RESTRICT in = from + w.rows * p + q * cols;
        float* CRAYON_RESTRICT out = to + w.cols * q + p * height;
        for (std::size_t j = 0; j < cols; ++j) {
          for (std::size_t i = 0; i < height; ++i) out[j * height + i] = in[i * cols + j];
        }
      }
    }
  }

  std::vector<std::size_t> offsets_;  // of each site's panels of W^T; those of W follow
  aligned_vector<float> panels_;
  aligned_vector<float> gated_;  // G A_cat, where the factors have A_cat
  std::vector<state> state_;
  bool merged_ = false;
};

}  // namespace crayon::train
