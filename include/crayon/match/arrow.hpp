// SPDX-License-Identifier: MIT
// Arrow routing: adapters say with their own weights which inputs they are for. Needs Eigen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>

namespace crayon::match {

/// The direction of the input that an adapter amplifies most at a site: the leading right singular
/// vector of B A, a unit vector (in). From the SVD of the (r, r) core R_B R_A^T, with B = Q_B R_B
/// and A^T = Q_A R_A: neither B A nor A^T A is formed. The element of the largest magnitude is made
/// positive, as the sign means nothing. All zeros if B A is zero.
template <element E>
void arrow_prototype(matrix_view<const E> a, matrix_view<const E> b, std::span<float> prototype) {
  CRAYON_ASSERT(a.rows == b.cols && a.cols == prototype.size());
  using matrix = Eigen::MatrixXd;
  const auto size = [](std::size_t n) { return static_cast<Eigen::Index>(n); };
  std::fill(prototype.begin(), prototype.end(), 0.0F);
  const Eigen::Index rank = size(a.rows);
  if (rank == 0) return;
  const auto at = [](matrix_view<const E> m, Eigen::Index r, Eigen::Index c) {
    return double{to_float(m.row(static_cast<std::size_t>(r))[c])};
  };
  const matrix at_ = matrix::NullaryExpr(
      size(a.cols), rank, [&](Eigen::Index r, Eigen::Index c) { return at(a, c, r); });
  const matrix b_ = matrix::NullaryExpr(
      size(b.rows), rank, [&](Eigen::Index r, Eigen::Index c) { return at(b, r, c); });
  const Eigen::HouseholderQR<matrix> qa(at_), qb(b_);
  const auto r_of = [rank](const Eigen::HouseholderQR<matrix>& qr) {
    const Eigen::Index rows = std::min(rank, qr.matrixQR().rows());
    return matrix(qr.matrixQR().topRows(rows).template triangularView<Eigen::Upper>());
  };
  const Eigen::JacobiSVD<matrix> svd(r_of(qb) * r_of(qa).transpose(), Eigen::ComputeFullV);
  if (!(svd.singularValues()(0) > 0)) return;
  Eigen::VectorXd v = Eigen::VectorXd::Zero(size(a.cols));
  v.head(svd.matrixV().rows()) = svd.matrixV().col(0);
  v = qa.householderQ() * v;
  Eigen::Index largest = 0;
  v.cwiseAbs().maxCoeff(&largest);
  v *= (v(largest) < 0 ? -1 : 1) / v.norm();
  for (std::size_t j = 0; j < prototype.size(); ++j) prototype[j] = static_cast<float>(v(size(j)));
}

/// The prototypes of N adapters at all their sites.
class arrow_prototypes {
 public:
  arrow_prototypes() = default;

  /// Of a pool or a set of adapters. Errors: a site that is not a linear layer, as its input is not
  /// a vector.
  template <class Source>
  [[nodiscard]] static result<arrow_prototypes> of(const Source& source) {
    using E = typename Source::element_type;
    arrow_prototypes made;
    made.count_ = source.size();
    for (std::size_t i = 0; i < source.sites(); ++i) {
      CRAYON_CHECK(made.add_site(std::string(source.module(i)), source.in(i), source.kind(i)));
    }
    made.allocate();
    std::vector<E> a, b;
    for (std::size_t i = 0; i < source.sites(); ++i) {
      for (std::size_t k = 0; k < source.size(); ++k) {
        const std::size_t rank = source.rank(k, i);
        a.resize(rank * source.in(i));
        b.resize(rank * source.out(i));
        const matrix_view<E> at(a.data(), rank, source.in(i)), bt(b.data(), source.out(i), rank);
        source.copy_a(k, i, at);
        source.copy_b(k, i, bt);
        arrow_prototype<E>(at, bt, made.row(i, k));
      }
    }
    return made;
  }

  /// From the index of a pool that was made for arrow; `shapes` are the pool's. Errors: index
  /// vectors of another length, a site that is not a linear layer.
  [[nodiscard]] static result<arrow_prototypes> from_index(
      std::span<const adapter::site_shape> shapes, matrix_view<const float> index) {
    arrow_prototypes made;
    made.count_ = index.rows;
    for (const auto& s : shapes) CRAYON_CHECK(made.add_site(s.module, s.in, s.kind));
    if (index.cols != made.width()) {
      return error{errc::bad_shape, "index vectors of length " + std::to_string(index.cols) +
                                        ", the prototypes of " + std::to_string(shapes.size()) +
                                        " sites have " + std::to_string(made.width())};
    }
    made.allocate();
    for (std::size_t k = 0; k < index.rows; ++k) {
      const float* from = index.row(k);
      for (std::size_t i = 0; i < made.sites(); ++i) {
        for (float& x : made.row(i, k)) x = *from++;
        normalise_row(made.row(i, k));
      }
    }
    return made;
  }

  /// (N, width): the prototypes of each adapter side by side, over the root of the number of those
  /// that are not zero: unit vectors, as a pool's index has them. An adapter whose B A is zero at
  /// every site has a row of zeros, which a pool refuses.
  [[nodiscard]] std::vector<float> index() const {
    std::vector<float> all;
    all.reserve(count_ * width());
    for (std::size_t k = 0; k < count_; ++k) {
      for (std::size_t i = 0; i < sites(); ++i) {
        const auto p = at(i);
        all.insert(all.end(), p.row(k), p.row(k) + p.cols);
      }
      normalise_row(std::span(all).last(width()));
    }
    return all;
  }

  /// Number of adapters.
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] std::size_t sites() const noexcept { return modules_.size(); }
  [[nodiscard]] std::string_view module(std::size_t site) const noexcept { return modules_[site]; }
  /// (N, in)
  [[nodiscard]] matrix_view<const float> at(std::size_t site) const noexcept {
    return {memory_.data() + first_[site] * count_, count_, first_[site + 1] - first_[site]};
  }
  /// The inputs of all sites together.
  [[nodiscard]] std::size_t width() const noexcept { return first_.back(); }

 private:
  [[nodiscard]] result<void> add_site(std::string module, std::size_t in, adapter::site_kind kind) {
    if (kind != adapter::site_kind::linear) {
      return error{errc::unsupported, "arrow routes by the input of linear layers, " + module +
                                          " is a site of kind " + std::string(adapter::name(kind))};
    }
    modules_.push_back(std::move(module));
    first_.push_back(first_.back() + in);
    return {};
  }
  void allocate() { memory_.assign(count_ * width(), 0.0F); }
  [[nodiscard]] std::span<float> row(std::size_t site, std::size_t slot) noexcept {
    const std::size_t in = first_[site + 1] - first_[site];
    return std::span(memory_).subspan(first_[site] * count_ + slot * in, in);
  }
  static void normalise_row(std::span<float> v) noexcept {
    double squares = 0;
    for (const float x : v) squares += double{x} * double{x};
    if (squares == 0) return;
    for (float& x : v) x = static_cast<float>(double{x} / std::sqrt(squares));
  }

  std::size_t count_ = 0;
  std::vector<std::string> modules_;
  std::vector<std::size_t> first_{0};  // of each site among all inputs; at the end their number
  std::vector<float> memory_;          // site by site (N, in)
};

/// Which adapters serve an input at a site (Ostapenko et al. 2024, "Towards Modular LLMs by
/// Building and Reusing a Library of LoRAs", section 3.2), as PEFT computes it: c_i = softmax over
/// the top_k largest of |x . p_i| / temperature. The input is not normalised, in the paper as in
/// PEFT: a long one makes a sharper choice.
struct arrow {
  float temperature = 1;  ///< PEFT's defaults
  std::size_t top_k = 3;  ///< 0: all

  [[nodiscard]] static constexpr std::string_view name() noexcept { return "arrow"; }

  /// A temperature that is not a positive number is an error.
  [[nodiscard]] static result<arrow> with(float temperature, std::size_t top_k) {
    if (temperature > 0 && std::isfinite(temperature)) return arrow{temperature, top_k};
    return error{errc::bad_value, "the temperature of arrow is " + std::to_string(temperature) +
                                      ", needs a positive number"};
  }

  /// prototypes (N, in) and an input (in) -> c (N), sum 1. Among equals the first are taken.
  void coefficients(matrix_view<const float> prototypes, const float* x, float* c) const noexcept {
    CRAYON_ASSERT(temperature > 0);
    const std::size_t n = prototypes.rows;
    for (std::size_t i = 0; i < n; ++i) {
      double product = 0;
      for (std::size_t j = 0; j < prototypes.cols; ++j) {
        product += double{prototypes.row(i)[j]} * double{x[j]};
      }
      c[i] = static_cast<float>(std::abs(product));
    }
    // A value is kept if fewer than top_k stand before it. N is small: no memory for an order.
    const std::size_t k = top_k == 0 ? n : std::min(top_k, n);
    float top = 0;
    for (std::size_t i = 0; i < n; ++i) top = std::max(top, c[i]);
    double sum = 0;
    float least = 0;        // the smallest that is kept,
    std::size_t equal = 0;  // and how many of that value are
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t larger = 0, same = 0;
      for (std::size_t j = 0; j < n; ++j) {
        larger += c[j] > c[i] ? 1U : 0U;
        same += c[j] == c[i] ? 1U : 0U;
      }
      if (larger < k && larger + same >= k) {
        least = c[i];
        equal = k - larger;
        break;
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      const bool kept = c[i] > least || (c[i] == least && equal > 0);
      if (kept && c[i] == least) --equal;
      c[i] = kept ? std::exp((c[i] - top) / temperature) : 0.0F;
      sum += double{c[i]};
    }
    for (std::size_t i = 0; i < n; ++i) c[i] = static_cast<float>(double{c[i]} / sum);
  }
};
static_assert(site_matcher<arrow>);

}  // namespace crayon::match
