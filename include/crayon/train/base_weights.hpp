// SPDX-License-Identifier: MIT
// The base model as training reads it: f32, bf16 or f16 matrices behind one type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <crayon/concepts.hpp>
#include <crayon/model/llama_weights.hpp>

namespace crayon::train {

/// How the matrices of a base model are stored. A further format adds an enumerator and a case in
/// each function below; nothing else of training reads a base weight.
enum class stored_as : std::uint8_t { f32, bf16, f16 };

template <element E>
inline constexpr stored_as storage_of = std::is_same_v<E, float>  ? stored_as::f32
                                        : std::is_same_v<E, bf16> ? stored_as::bf16
                                                                  : stored_as::f16;

/// A matrix (rows, cols) of the base model.
struct base_matrix {
  const void* data = nullptr;
  std::size_t rows = 0, cols = 0;
  std::size_t offset = 0;  ///< of its first element, counted from the model's first matrix
  stored_as storage = stored_as::f32;

  /// `use(matrix_view<const E>)` with the element type that it has.
  template <class Use>
  void visit(Use&& use) const {
    switch (storage) {
      case stored_as::f32:
        return use(matrix_view<const float>(static_cast<const float*>(data), rows, cols));
      case stored_as::bf16:
        return use(matrix_view<const bf16>(static_cast<const bf16*>(data), rows, cols));
      case stored_as::f16:
        return use(matrix_view<const f16>(static_cast<const f16*>(data), rows, cols));
    }
  }
};

/// y (+)= x W^T; x (rows, in), W (out, in), y (rows, out).
template <kernel_backend B>
void base_forward(matrix_view<const float> x, const base_matrix& w, matrix_view<float> y,
                  bool accumulate) {
  w.visit([&](auto matrix) { B::gemm_nt(x, matrix, y, accumulate); });
}

/// dx (+)= dy W.
template <kernel_backend B>
void base_backward(matrix_view<const float> dy, const base_matrix& w, matrix_view<float> dx,
                   bool accumulate) {
  w.visit([&](auto matrix) { B::gemm_nn(dy, matrix, dx, accumulate); });
}

/// y (ids, dim) = the rows of `table` (vocab, dim) named by `ids`.
inline void base_rows(const base_matrix& table, std::span<const std::int32_t> ids,
                      matrix_view<float> y) {
  table.visit([&](auto matrix) {
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const auto* from = matrix.row(static_cast<std::size_t>(ids[t]));
      float* to = y.row(t);
      for (std::size_t j = 0; j < matrix.cols; ++j) to[j] = to_float(from[j]);
    }
  });
}

/// A view of the weights of a model, which must outlive it. Converts from `llama_weights` of any
/// element type, so that what takes this takes them all.
class base_weights {
 public:
  template <element E>
  base_weights(const model::llama_weights<E>& weights) noexcept
      : config_(&weights.config()),
        shapes_(&weights.shapes()),
        matrices_(weights.matrices().data()),
        norms_(weights.norms()),
        count_(weights.matrices().size()),
        storage_(storage_of<E>) {}
  template <element E>
  base_weights(const model::llama_weights<E>&& temporary) = delete;

  [[nodiscard]] const model::llama_config& config() const noexcept { return *config_; }
  [[nodiscard]] stored_as storage() const noexcept { return storage_; }
  /// Elements of all matrices, laid out as llama_weights::matrices().
  [[nodiscard]] std::size_t matrices_size() const noexcept { return count_; }
  [[nodiscard]] std::span<const float> norms() const noexcept { return norms_; }

  /// (vocab, dim)
  [[nodiscard]] base_matrix embedding() const noexcept { return matrix(0); }
  /// (vocab, dim)
  [[nodiscard]] base_matrix head() const noexcept {
    return config_->tied ? matrix(0) : matrix(shapes_->size() - 1);
  }
  /// (out, in)
  [[nodiscard]] base_matrix linear(std::size_t layer, model::projection p) const noexcept {
    return matrix(first_of(layer) + 2 + static_cast<std::size_t>(p));
  }
  /// (dim)
  [[nodiscard]] const float* attention_norm(std::size_t layer) const noexcept {
    return norm(first_of(layer));
  }
  [[nodiscard]] const float* mlp_norm(std::size_t layer) const noexcept {
    return norm(first_of(layer) + 1);
  }
  [[nodiscard]] const float* final_norm() const noexcept { return norm(first_of(config_->layers)); }

 private:
  [[nodiscard]] static std::size_t first_of(std::size_t layer) noexcept {
    return 1 + layer * model::weights_per_layer;
  }
  [[nodiscard]] const float* norm(std::size_t i) const noexcept {
    return norms_.data() + (*shapes_)[i].offset;
  }
  [[nodiscard]] base_matrix matrix(std::size_t i) const noexcept {
    const auto& s = (*shapes_)[i];
    const std::size_t bytes = storage_ == stored_as::f32 ? 4 : 2;
    return {static_cast<const std::byte*>(matrices_) + s.offset * bytes, s.rows, s.cols, s.offset,
            storage_};
  }

  const model::llama_config* config_;
  const std::vector<model::weight_shape>* shapes_;
  const void* matrices_;
  std::span<const float> norms_;
  std::size_t count_;
  stored_as storage_;
};

}  // namespace crayon::train
