// SPDX-License-Identifier: MIT
// Brings the factors of foreign adapters into one gauge, so that averaging them factor by factor
// loses less. Needs Eigen.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>

namespace crayon::blend {

struct align_options {
  std::size_t rounds = 100;  ///< over all adapters, at most
  double tolerance = 1e-10;  ///< ends when a round lowers the spread by less than this share
  std::span<const std::string> names = {};  ///< of the adapters, for errors
};

/// What an alignment did.
template <element E>
struct aligned_adapters {
  std::vector<adapter::lora_adapter<E>> adapters;  ///< every dW as it was, to the rounding of E
  /// Mean squared distance of the factors from their mean, relative to their mean square: of the
  /// balanced factors before the rotations, and after. 0: `linear` is exact.
  double spread_before = 0;
  double spread_after = 0;
};

namespace procrustes_detail {

using matrix = Eigen::MatrixXd;

template <element E>
[[nodiscard]] matrix in_double(matrix_view<const E> m) {
  matrix d(static_cast<Eigen::Index>(m.rows), static_cast<Eigen::Index>(m.cols));
  for (std::size_t r = 0; r < m.rows; ++r) {
    for (std::size_t c = 0; c < m.cols; ++c) {
      d(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c)) = double{to_float(m.row(r)[c])};
    }
  }
  return d;
}

/// False: a value is not finite in E.
template <element E>
[[nodiscard]] bool round_to(const matrix& d, matrix_view<E> m) {
  bool finite = true;
  for (std::size_t r = 0; r < m.rows; ++r) {
    for (std::size_t c = 0; c < m.cols; ++c) {
      const E e = from_float<E>(
          static_cast<float>(d(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c))));
      finite &= to_float(e) - to_float(e) == 0;
      m.row(r)[c] = e;
    }
  }
  return finite;
}

/// B over A^T, (out + in, r), with B = Q_B U sqrt(S) and A = sqrt(S) V^T Q_A^T of the singular
/// value decomposition U S V^T of s R_B R_A^T. An orthogonal G takes it to another such pair of the
/// same B A: [B; A^T] G.
template <element E>
[[nodiscard]] matrix balanced(factors_view<E> f) {
  const matrix b = in_double(f.b), a = in_double(f.a).transpose();
  const Eigen::Index r = b.cols();
  const auto thin = [&](const matrix& m, matrix& triangle) -> matrix {
    const Eigen::Index rank = std::min(m.rows(), r);
    const Eigen::HouseholderQR<matrix> qr(m);
    triangle = qr.matrixQR().topRows(rank).template triangularView<Eigen::Upper>();
    return qr.householderQ() * matrix::Identity(m.rows(), rank);
  };
  matrix r_b, r_a;
  const matrix q_b = thin(b, r_b), q_a = thin(a, r_a);
  const Eigen::JacobiSVD<matrix> svd(double{f.scale} * r_b * r_a.transpose(),
                                     Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::Index rank = svd.singularValues().size();
  const Eigen::VectorXd root = svd.singularValues().cwiseSqrt();
  matrix both = matrix::Zero(b.rows() + a.rows(), r);
  both.topLeftCorner(b.rows(), rank) = q_b * svd.matrixU() * root.asDiagonal();
  both.bottomLeftCorner(a.rows(), rank) = q_a * svd.matrixV() * root.asDiagonal();
  return both;
}

/// The orthogonal G that brings x G closest to y (Schoenemann 1966).
[[nodiscard]] inline matrix rotation(const matrix& x, const matrix& y) {
  const Eigen::JacobiSVD<matrix> svd(x.transpose() * y, Eigen::ComputeThinU | Eigen::ComputeThinV);
  return svd.matrixU() * svd.matrixV().transpose();
}

struct spread {
  double distance = 0;  ///< sum of squared distances from the mean
  double square = 0;    ///< sum of squares
};

[[nodiscard]] inline spread spread_of(const std::vector<matrix>& all) {
  matrix mean = all[0];
  for (std::size_t k = 1; k < all.size(); ++k) mean += all[k];
  mean /= static_cast<double>(all.size());
  spread s;
  for (const matrix& m : all) {
    s.distance += (m - mean).squaredNorm();
    s.square += m.squaredNorm();
  }
  return s;
}

/// Generalised Procrustes analysis (Gower 1975): everyone to the first, then, until it settles,
/// each to the mean of the others.
inline void rotate_together(std::vector<matrix>& all, const align_options& options) {
  for (std::size_t k = 1; k < all.size(); ++k) all[k] *= rotation(all[k], all[0]);
  matrix sum = all[0];
  for (std::size_t k = 1; k < all.size(); ++k) sum += all[k];
  double before = spread_of(all).distance;
  for (std::size_t round = 0; round < options.rounds; ++round) {
    for (matrix& m : all) {
      const matrix others = sum - m;
      m *= rotation(m, others);
      sum = others + m;
    }
    const spread now = spread_of(all);
    if (!(before - now.distance > options.tolerance * now.square)) break;
    before = now.distance;
  }
}

}  // namespace procrustes_detail

/// Balances every adapter at every site (so that |B| = |A| and the scale is 1) and rotates their
/// rank spaces towards each other: B_i -> B_i G_i, A_i -> G_i^T A_i with the orthogonal G_i that
/// minimise sum_i |[B_i; A_i^T] G_i - mean|^2. Their dW stay as they are; what changes is what
/// `linear` makes of them, whose error is the covariance of the factors. The adapters must agree in
/// sites and ranks; the order of sites is that of the first. Sites are spread over the threads.
template <element E, class X = serial_executor>
  requires executor_reference<X>
[[nodiscard]] result<aligned_adapters<E>> align(std::span<const adapter::lora_adapter<E>> adapters,
                                                const align_options& options = {},
                                                X&& threads = X{}) {
  namespace detail = procrustes_detail;
  if (adapters.empty()) return error{errc::bad_value, "an alignment of no adapters"};
  auto shapes = adapters[0].shapes();
  const auto name_of = [&](std::size_t k) {
    return k < options.names.size() ? options.names[k] : "adapter " + std::to_string(k);
  };
  for (std::size_t k = 1; k < adapters.size(); ++k) {
    const std::string who = name_of(k);
    if (adapters[k].size() != shapes.size()) {
      return error{errc::bad_shape, who + " has " + std::to_string(adapters[k].size()) +
                                        " sites, " + name_of(0) + " has " +
                                        std::to_string(shapes.size())};
    }
    for (const auto& s : shapes) {
      const auto at = adapters[k].find(s.module);
      if (!at) return error{errc::bad_shape, who + " has no module " + s.module};
      auto other = adapters[k].shape(*at);
      other.scale = s.scale;
      if (other == s) continue;
      return error{errc::bad_shape, who + " has " + adapter::describe(adapters[k].shape(*at)) +
                                        ", " + name_of(0) + " has " + adapter::describe(s)};
    }
  }
  for (auto& s : shapes) s.scale = 1;
  aligned_adapters<E> made;
  made.adapters.assign(adapters.size(), adapter::lora_adapter<E>(shapes));
  std::vector<detail::spread> before(shapes.size()), after(shapes.size());
  std::vector<char> finite(shapes.size(), 0);
  std::atomic<std::size_t> next{0};
  threads.parallel_for(threads.concurrency(), [&](std::size_t) {
    std::vector<detail::matrix> all(adapters.size());
    for (std::size_t i; (i = next.fetch_add(1)) < shapes.size();) {
      bool good = true;
      for (std::size_t k = 0; k < all.size(); ++k) {
        const auto f = adapters[k].factors(*adapters[k].find(shapes[i].module));
        const bool usable =
            detail::in_double(f.a).allFinite() && detail::in_double(f.b).allFinite();
        good &= usable;
        if (usable) all[k] = detail::balanced(f);
      }
      if (!good) continue;
      if (shapes[i].kind == adapter::site_kind::bias) {  // rank 1, A = 1: nothing to rotate
        for (auto& m : all) {
          m.topRows(m.rows() - 1) *= m(m.rows() - 1, 0);
          m(m.rows() - 1, 0) = 1;
        }
      } else {
        before[i] = detail::spread_of(all);
        detail::rotate_together(all, options);
        after[i] = detail::spread_of(all);
      }
      const auto rows = static_cast<Eigen::Index>(shapes[i].out);
      for (std::size_t k = 0; k < all.size(); ++k) {
        good &= detail::round_to<E>(all[k].topRows(rows), made.adapters[k].b(i));
        good &= detail::round_to<E>(all[k].bottomRows(all[k].rows() - rows).transpose(),
                                    made.adapters[k].a(i));
      }
      finite[i] = good ? 1 : 0;
    }
  });
  detail::spread all_before, all_after;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (finite[i] == 0) {
      return error{errc::bad_value,
                   "an adapter has factors that are not finite at " + shapes[i].module};
    }
    all_before.distance += before[i].distance;
    all_before.square += before[i].square;
    all_after.distance += after[i].distance;
    all_after.square += after[i].square;
  }
  const auto share = [](const detail::spread& s) {
    return s.square > 0 ? s.distance / s.square : 0;
  };
  made.spread_before = share(all_before);
  made.spread_after = share(all_after);
  return made;
}

}  // namespace crayon::blend
