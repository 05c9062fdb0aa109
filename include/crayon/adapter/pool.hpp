// SPDX-License-Identifier: MIT
// N adapters of one base model, stored side by side so that a blend reads memory once, in order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/interleaved_view.hpp>
#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool_info.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/aligned.hpp>

namespace crayon::adapter {

template <element E>
class pool {
 public:
  using element_type = E;

  /// Elements: 1 KB of f32. Large enough that a kernel call costs nothing beside it, small enough
  /// that the factors of small models are not mostly padding.
  static constexpr std::size_t default_tile = 256;

  pool() = default;

  /// `index` is (N, d) with rows of unit length, or has no columns (then only weights that are
  /// given can be used). The adapters must agree in modules, shapes, ranks and scales.
  [[nodiscard]] static result<pool> build(std::span<const lora_adapter<E>> adapters,
                                          matrix_view<const float> index, pool_info info,
                                          std::size_t tile = default_tile) {
    if (adapters.empty()) return error{errc::bad_value, "a pool of no adapters"};
    CRAYON_TRY(pool p, zeros(adapters[0].shapes(), adapters.size(), index, std::move(info), tile));
    for (std::size_t k = 0; k < adapters.size(); ++k) CRAYON_CHECK(p.insert(k, adapters[k]));
    return p;
  }

  /// A pool of `count` adapters that change nothing, to be filled by `insert` or through the views.
  [[nodiscard]] static result<pool> zeros(std::vector<site_shape> shapes, std::size_t count,
                                          matrix_view<const float> index, pool_info info,
                                          std::size_t tile = default_tile);

  /// Copies an adapter into a slot.
  [[nodiscard]] result<void> insert(std::size_t slot, const lora_adapter<E>& adapter);

  /// Copies an adapter out, bit by bit.
  [[nodiscard]] lora_adapter<E> extract(std::size_t slot) const {
    CRAYON_ASSERT(slot < size());
    lora_adapter<E> adapter(shapes_);
    for (std::size_t i = 0; i < sites(); ++i) {
      copy_a(slot, i, adapter.a(i));
      copy_b(slot, i, adapter.b(i));
    }
    return adapter;
  }

  /// Number of adapters.
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] std::size_t sites() const noexcept { return shapes_.size(); }
  [[nodiscard]] const std::vector<site_shape>& shapes() const noexcept { return shapes_; }
  [[nodiscard]] std::string_view module(std::size_t site) const noexcept {
    return shapes_[site].module;
  }
  [[nodiscard]] std::size_t out(std::size_t site) const noexcept { return shapes_[site].out; }
  [[nodiscard]] std::size_t in(std::size_t site) const noexcept { return shapes_[site].in; }
  [[nodiscard]] std::size_t rank(std::size_t, std::size_t site) const noexcept {
    return shapes_[site].rank;
  }
  [[nodiscard]] float scale(std::size_t, std::size_t site) const noexcept {
    return shapes_[site].scale;
  }
  [[nodiscard]] site_kind kind(std::size_t site) const noexcept { return shapes_[site].kind; }

  /// (d)
  [[nodiscard]] std::span<const float> index(std::size_t slot) const noexcept {
    return {index_.data() + slot * index_dim_, index_dim_};
  }
  /// (N, d)
  [[nodiscard]] matrix_view<const float> index() const noexcept {
    return {index_.data(), count_, index_dim_};
  }
  [[nodiscard]] const pool_info& info() const noexcept { return info_; }

  [[nodiscard]] interleaved_view<E> a(std::size_t site) noexcept {
    return view(memory_.data(), 2 * site);
  }
  [[nodiscard]] interleaved_view<E> b(std::size_t site) noexcept {
    return view(memory_.data(), 2 * site + 1);
  }
  [[nodiscard]] interleaved_view<const E> a(std::size_t site) const noexcept {
    return view(memory_.data(), 2 * site);
  }
  [[nodiscard]] interleaved_view<const E> b(std::size_t site) const noexcept {
    return view(memory_.data(), 2 * site + 1);
  }

  /// Copies one adapter's A (rank, in) or B (out, rank) into rows of any stride.
  void copy_a(std::size_t slot, std::size_t site, matrix_view<E> to) const noexcept {
    copy_factor(a(site), slot, to);
  }
  void copy_b(std::size_t slot, std::size_t site, matrix_view<E> to) const noexcept {
    copy_factor(b(site), slot, to);
  }

  /// Elements per tile.
  [[nodiscard]] std::size_t tile() const noexcept { return tile_; }
  /// Bytes of all factors, padding included.
  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.size() * sizeof(E); }

 private:
  template <class T>
  [[nodiscard]] interleaved_view<T> view(T* memory, std::size_t factor) const noexcept {
    const auto& s = shapes_[factor / 2];
    const std::size_t elements = s.rank * (factor % 2 == 0 ? s.in : s.out);
    return {memory + offsets_[factor], elements, count_, tile_};
  }

  std::vector<site_shape> shapes_;
  std::size_t count_ = 0;
  std::size_t tile_ = default_tile;
  std::size_t index_dim_ = 0;
  aligned_vector<float> index_;
  pool_info info_;
  std::vector<std::size_t> offsets_;
  aligned_vector<E> memory_;
};
static_assert(adapter_pool<pool<float>>);

template <element E>
result<pool<E>> pool<E>::zeros(std::vector<site_shape> shapes, std::size_t count,
                               matrix_view<const float> index, pool_info info, std::size_t tile) {
  CRAYON_CHECK(check_pool(shapes, count, index, info, tile, sizeof(E)));
  pool p;
  p.shapes_ = std::move(shapes);
  p.count_ = count;
  p.tile_ = tile;
  p.index_dim_ = index.cols;
  for (std::size_t k = 0; index.cols != 0 && k < count; ++k) {
    p.index_.insert(p.index_.end(), index.row(k), index.row(k) + index.cols);
  }
  p.info_ = std::move(info);
  std::size_t total = 0;
  for (const auto& s : p.shapes_) {
    for (const std::size_t side : {s.in, s.out}) {
      p.offsets_.push_back(total);
      total += (s.rank * side + tile - 1) / tile * tile * count;
    }
  }
  p.memory_.assign(total, from_float<E>(0));
  return p;
}

template <element E>
result<void> pool<E>::insert(std::size_t slot, const lora_adapter<E>& adapter) {
  CRAYON_ASSERT(slot < size());
  CRAYON_CHECK(check_shapes(info_.names[slot], adapter, shapes_));
  for (std::size_t i = 0; i < sites(); ++i) {
    const auto factors = adapter.factors(*adapter.find(shapes_[i].module));
    const auto copy_in = [&](interleaved_view<E> to, const E* from) {
      for (std::size_t t = 0; t < to.tiles(); ++t) {
        std::copy_n(from + t * to.tile, to.length(t), to.at(t, slot));
      }
    };
    copy_in(a(i), factors.a.data);
    copy_in(b(i), factors.b.data);
  }
  return {};
}

}  // namespace crayon::adapter
