// SPDX-License-Identifier: MIT
// A pool whose factors stay in its file: opened in a millisecond, larger than memory if need be.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <unistd.h>

#include <crayon/adapter/cores.hpp>
#include <crayon/adapter/interleaved_view.hpp>
#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool_contents.hpp>
#include <crayon/adapter/residency.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>

namespace crayon::adapter {

/// When the factors' bytes are compared with their checksums. Opening always refuses a truncated
/// file and an altered header, index or table of checksums.
enum class verification {
  at_open,   ///< all of them by `open`: reads the file once
  by_caller  ///< by `check`, when and as far as the caller wants; until then they are taken on
             ///< trust
};

/// Reads factors from the mapped file: nothing is copied. Several threads may read at once. What is
/// altered in the file while it is open may show; replacing the file as a whole (`save_pool`, the
/// edits of adapter/pool_edit.hpp) does not: the old file lives as long as it is open.
template <element E, residency_policy R = keep_all>
class mapped_pool {
 public:
  using element_type = E;

  /// The file's factors must be stored as E (`load_pool` converts).
  [[nodiscard]] static result<mapped_pool> open(const std::string& path,
                                                verification verify = verification::at_open,
                                                R residency = R()) {
    CRAYON_TRY(pool_contents file, pool_contents::open(path));
    if (file.type() != dtype_of<E>) {
      return error{errc::mismatch, path + ": factors are " + std::string(name(file.type())) +
                                       ", asked for " + std::string(name(dtype_of<E>))};
    }
    const auto misaligned = [](std::span<const std::byte> bytes, std::size_t needed) {
      return reinterpret_cast<std::uintptr_t>(bytes.data()) % needed != 0;
    };
    for (std::size_t f = 0; f < 2 * file.shapes().size(); ++f) {
      if (misaligned(file.factor(f), alignof(E))) {
        return error{errc::unsupported,
                     path + ": tensor " + file.tensor_name(f) + " is not aligned for " +
                         std::string(name(dtype_of<E>)) + ": it can be loaded, not mapped"};
      }
    }
    if (verify == verification::at_open) CRAYON_CHECK(file.check());
    mapped_pool p(std::move(file), std::move(residency));
    for (std::size_t i = 0; i < p.file_.cores().size(); i += 2) {
      const auto a = p.file_.cores()[i], b = p.file_.cores()[i + 1];
      if (misaligned(a, alignof(float)) || misaligned(b, alignof(float))) {
        return error{errc::unsupported, path + ": the R factors are not aligned for F32"};
      }
      const std::size_t k = core_columns(p, i / 2);
      p.cores_.push_back({{reinterpret_cast<const float*>(a.data()), k, k},
                          {reinterpret_cast<const float*>(b.data()), k, k}});
    }
    std::vector<std::size_t> bytes;
    for (std::size_t i = 0; i < p.sites(); ++i) {
      bytes.push_back(p.file_.factor(2 * i).size() + p.file_.factor(2 * i + 1).size());
    }
    auto started = p.residency_->start(bytes, [&](std::size_t i) { return p.pin(i); });
    if (!started) return error{started.error().code, path + ": " + started.error().text};
    return p;
  }

  /// Number of adapters.
  [[nodiscard]] std::size_t size() const noexcept { return file_.size(); }
  /// Adapters and spare slots.
  [[nodiscard]] std::size_t slots() const noexcept { return file_.slots(); }
  [[nodiscard]] std::size_t sites() const noexcept { return shapes().size(); }
  [[nodiscard]] const std::vector<site_shape>& shapes() const noexcept { return file_.shapes(); }
  [[nodiscard]] std::string_view module(std::size_t site) const noexcept {
    return shapes()[site].module;
  }
  [[nodiscard]] std::size_t out(std::size_t site) const noexcept { return shapes()[site].out; }
  [[nodiscard]] std::size_t in(std::size_t site) const noexcept { return shapes()[site].in; }
  [[nodiscard]] site_kind kind(std::size_t site) const noexcept { return shapes()[site].kind; }
  [[nodiscard]] std::size_t rank(std::size_t, std::size_t site) const noexcept {
    return shapes()[site].rank;
  }
  [[nodiscard]] float scale(std::size_t, std::size_t site) const noexcept {
    return shapes()[site].scale;
  }

  /// (d)
  [[nodiscard]] std::span<const float> index(std::size_t slot) const noexcept {
    const auto all = file_.index();
    return {all.row(slot), all.cols};
  }
  /// (N, d)
  [[nodiscard]] matrix_view<const float> index() const noexcept { return file_.index(); }
  [[nodiscard]] const pool_info& info() const noexcept { return file_.info(); }
  /// The R factors of every site; empty if the file has none.
  [[nodiscard]] std::span<const site_cores> cores() const noexcept { return cores_; }

  [[nodiscard]] interleaved_view<const E> a(std::size_t site) const noexcept {
    return view(2 * site);
  }
  [[nodiscard]] interleaved_view<const E> b(std::size_t site) const noexcept {
    return view(2 * site + 1);
  }

  /// Copies one adapter's A (rank, in) or B (out, rank) into rows of any stride.
  void copy_a(std::size_t slot, std::size_t site, matrix_view<E> to) const noexcept {
    copy_factor(a(site), slot, to);
  }
  void copy_b(std::size_t slot, std::size_t site, matrix_view<E> to) const noexcept {
    copy_factor(b(site), slot, to);
  }
  /// Copies an adapter out, bit by bit.
  [[nodiscard]] lora_adapter<E> extract(std::size_t slot) const {
    CRAYON_ASSERT(slot < size());
    lora_adapter<E> adapter(shapes());
    for (std::size_t i = 0; i < sites(); ++i) {
      copy_a(slot, i, adapter.a(i));
      copy_b(slot, i, adapter.b(i));
    }
    return adapter;
  }

  /// Compares all bytes of one site (its R factors too) with their checksums, and finds what is not
  /// finite.
  [[nodiscard]] result<void> check(std::size_t site) const { return file_.check(site); }
  [[nodiscard]] result<void> check() const { return file_.check(); }

  /// Elements per tile.
  [[nodiscard]] std::size_t tile() const noexcept { return file_.tile(); }
  /// Bytes of all factors, padding and spare slots included.
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (std::size_t f = 0; f < 2 * sites(); ++f) sum += file_.factor(f).size();
    return sum;
  }
  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  [[nodiscard]] std::string checksum() const { return file_.checksum(); }
  [[nodiscard]] const R& residency() const noexcept { return *residency_; }

 private:
  mapped_pool(pool_contents file, R residency)
      : file_(std::move(file)), residency_(std::make_unique<R>(std::move(residency))) {}

  [[nodiscard]] interleaved_view<const E> view(std::size_t f) const noexcept {
    residency_->use(f / 2, [this](std::size_t site) { let_go(site); });
    return {reinterpret_cast<const E*>(file_.factor(f).data()), file_.elements(f), slots(), tile()};
  }

  /// The pages that hold nothing but this factor.
  [[nodiscard]] std::span<std::byte> pages(std::size_t f) const noexcept {
    static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto bytes = file_.factor(f);
    const auto skip = (page - reinterpret_cast<std::uintptr_t>(bytes.data()) % page) % page;
    if (skip >= bytes.size()) return {};
    // Never written through: the mapping is read-only.
    return {const_cast<std::byte*>(bytes.data()) + skip, (bytes.size() - skip) / page * page};
  }

  void let_go(std::size_t site) const noexcept {
    for (const std::size_t f : {2 * site, 2 * site + 1}) {
      const auto range = pages(f);
      if (!range.empty()) ::madvise(range.data(), range.size(), MADV_DONTNEED);
    }
  }

  [[nodiscard]] result<void> pin(std::size_t site) const {
    for (const std::size_t f : {2 * site, 2 * site + 1}) {
      const auto range = pages(f);
      if (range.empty() || ::mlock(range.data(), range.size()) == 0) continue;
      const int number = errno;
      return error{errc::io_failed, "cannot lock " + std::to_string(range.size()) + " bytes of " +
                                        file_.tensor_name(f) +
                                        " in memory: " + std::generic_category().message(number)};
    }
    return {};
  }

  pool_contents file_;
  std::vector<site_cores> cores_;
  std::unique_ptr<R> residency_;  // does not move: it may hold a lock
};
static_assert(adapter_pool<mapped_pool<float>>);
static_assert(adapter_pool<mapped_pool<bf16, lru>>);

}  // namespace crayon::adapter
