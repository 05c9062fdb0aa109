// SPDX-License-Identifier: MIT
// One LoRA adapter that owns its factors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>

namespace crayon::adapter {

/// What a site's dW = scale * b * a is added to. The algebra of a blend is the same for all three.
enum class site_kind : std::uint8_t {
  linear,     ///< the weight of y = W x; W is (out, in)
  embedding,  ///< the transpose of a lookup table (in = vocabulary, out = d): x is one-hot
  bias        ///< the bias of a linear layer: in = 1 and x = 1; rank 1 and a = [1] when loaded
};

[[nodiscard]] constexpr std::string_view name(site_kind kind) noexcept {
  return kind == site_kind::linear ? "linear" : kind == site_kind::bias ? "bias" : "embedding";
}

/// One site of an adapter.
struct site_shape {
  std::string module;  ///< the layer's name in the base model: "model.layers.0.self_attn.q_proj";
                       ///< of a bias, that of its layer and ".bias"
  std::size_t out = 0;
  std::size_t in = 0;
  std::size_t rank = 0;
  float scale = 1;  ///< dW = scale * b * a
  site_kind kind = site_kind::linear;

  friend bool operator==(const site_shape&, const site_shape&) = default;
};

/// Owns the factors of all sites in one allocation, each factor on a cache line.
template <element E>
class lora_adapter {
 public:
  using element_type = E;

  lora_adapter() = default;

  /// All factors zero: the adapter that changes nothing.
  explicit lora_adapter(std::vector<site_shape> shapes) : shapes_(std::move(shapes)) {
    std::size_t count = 0;
    for (const auto& s : shapes_) {
      offsets_.push_back(count);
      count += padded(s.rank * s.in);
      offsets_.push_back(count);
      count += padded(s.out * s.rank);
    }
    memory_.assign(count, from_float<E>(0));
  }

  /// One adapter of the sites of several, in their order; a module may be in one of them only.
  [[nodiscard]] static lora_adapter of_sites(std::vector<lora_adapter> parts) {
    if (parts.size() == 1) return std::move(parts.front());
    std::vector<site_shape> shapes;
    for (const auto& p : parts) shapes.insert(shapes.end(), p.shapes_.begin(), p.shapes_.end());
    lora_adapter all(std::move(shapes));
    std::size_t site = 0;
    for (const auto& p : parts) {
      for (std::size_t i = 0; i < p.size(); ++i, ++site) {
        const auto from = p.factors(i);
        std::copy_n(from.a.data, from.a.size(), all.a(site).data);
        std::copy_n(from.b.data, from.b.size(), all.b(site).data);
      }
    }
    return all;
  }

  [[nodiscard]] std::size_t size() const noexcept { return shapes_.size(); }
  [[nodiscard]] const site_shape& shape(std::size_t i) const noexcept { return shapes_[i]; }
  [[nodiscard]] const std::vector<site_shape>& shapes() const noexcept { return shapes_; }
  [[nodiscard]] std::string_view module(std::size_t i) const noexcept { return shapes_[i].module; }

  /// The site of that name, if the adapter has it.
  [[nodiscard]] std::optional<std::size_t> find(std::string_view module) const noexcept {
    for (std::size_t i = 0; i < shapes_.size(); ++i) {
      if (shapes_[i].module == module) return i;
    }
    return std::nullopt;
  }

  /// (rank, in)
  [[nodiscard]] matrix_view<E> a(std::size_t i) noexcept {
    return {memory_.data() + offsets_[2 * i], shapes_[i].rank, shapes_[i].in};
  }
  /// (out, rank)
  [[nodiscard]] matrix_view<E> b(std::size_t i) noexcept {
    return {memory_.data() + offsets_[2 * i + 1], shapes_[i].out, shapes_[i].rank};
  }
  [[nodiscard]] factors_view<E> factors(std::size_t i) const noexcept {
    const auto& s = shapes_[i];
    return {{memory_.data() + offsets_[2 * i], s.rank, s.in},
            {memory_.data() + offsets_[2 * i + 1], s.out, s.rank},
            s.scale};
  }

  /// Bytes of all factors, without the padding between them.
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t count = 0;
    for (const auto& s : shapes_) count += s.rank * (s.in + s.out);
    return count * sizeof(E);
  }

 private:
  static constexpr std::size_t padded(std::size_t count) noexcept {
    constexpr std::size_t line = alignment / sizeof(E);
    return (count + line - 1) / line * line;
  }

  std::vector<site_shape> shapes_;
  std::vector<std::size_t> offsets_;
  aligned_vector<E> memory_;
};
static_assert(adapter_storage<lora_adapter<float>>);
static_assert(adapter_storage<lora_adapter<bf16>>);

/// The adapter with its factors rounded to E.
template <element E>
[[nodiscard]] lora_adapter<E> rounded_to(const lora_adapter<float>& from) {
  lora_adapter<E> to(from.shapes());
  const auto copy = [](matrix_view<const float> a, matrix_view<E> b) {
    for (std::size_t i = 0; i < a.size(); ++i) b.data[i] = from_float<E>(a.data[i]);
  };
  for (std::size_t s = 0; s < from.size(); ++s) {
    copy(from.factors(s).a, to.a(s));
    copy(from.factors(s).b, to.b(s));
  }
  return to;
}

}  // namespace crayon::adapter
