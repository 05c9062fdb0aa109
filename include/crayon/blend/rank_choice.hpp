// SPDX-License-Identifier: MIT
// The ranks that keep the error of a truncation below a target.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <crayon/core/result.hpp>

namespace crayon::blend {

/// What an error target binds.
enum class error_scope : std::uint8_t {
  total,      ///< the error over all sites; ranks go where a parameter removes the most of it
  each_site,  ///< the error of every site by itself (then also the total)
  one_rank    ///< the error over all sites, with one rank for all of them
};

/// Singular values of one site, largest first, and what one rank costs there: in + out.
struct site_spectrum {
  std::vector<double> sigma;
  std::size_t cost = 1;
};

/// The smallest ranks, at least 1, such that
///   || what is cut off ||_F <= error * || all ||_F.
/// `one_rank` gives all sites the same number, also those with fewer singular values.
[[nodiscard]] inline result<std::vector<std::size_t>> choose_ranks(
    std::span<const site_spectrum> sites, double error, error_scope scope) {
  if (!(error > 0) || !std::isfinite(error)) {
    return crayon::error{errc::bad_value,
                         "an error target of " + std::to_string(error) + ", needs more than 0"};
  }
  std::vector<std::size_t> ranks(sites.size(), 1);
  const auto energy = [](const site_spectrum& s, std::size_t from) {
    double sum = 0;  // small ones first
    for (std::size_t k = s.sigma.size(); k-- > from;) sum += s.sigma[k] * s.sigma[k];
    return sum;
  };
  double all = 0;
  for (const auto& s : sites) all += energy(s, 0);
  const double share = error * error, budget = share * all;
  if (scope == error_scope::each_site) {
    for (std::size_t i = 0; i < sites.size(); ++i) {
      const double allowed = share * energy(sites[i], 0);
      double cut = 0;
      std::size_t rank = sites[i].sigma.size();
      for (; rank > 1; --rank) {
        cut += sites[i].sigma[rank - 1] * sites[i].sigma[rank - 1];
        if (cut > allowed) break;
      }
      ranks[i] = std::max<std::size_t>(rank, 1);
    }
    return ranks;
  }
  if (scope == error_scope::one_rank) {
    std::size_t rank = 1;
    for (const auto& s : sites) rank = std::max(rank, s.sigma.size());
    double cut = 0;
    for (; rank > 1; --rank) {
      for (const auto& s : sites) {
        if (s.sigma.size() >= rank) cut += s.sigma[rank - 1] * s.sigma[rank - 1];
      }
      if (cut > budget) break;
    }
    ranks.assign(sites.size(), rank);
    return ranks;
  }
  struct direction {
    double energy, worth;
    std::size_t site;
  };
  std::vector<direction> directions;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    ranks[i] = std::max<std::size_t>(sites[i].sigma.size(), 1);
    for (std::size_t k = sites[i].sigma.size(); k-- > 1;) {
      const double e = sites[i].sigma[k] * sites[i].sigma[k];
      directions.push_back({e, e / static_cast<double>(sites[i].cost), i});
    }
  }
  // Of one site the smaller ones come first, so that what is kept is always the leading part.
  std::stable_sort(directions.begin(), directions.end(),
                   [](const auto& x, const auto& y) { return x.worth < y.worth; });
  double cut = 0;
  for (const auto& d : directions) {
    cut += d.energy;
    if (cut > budget) break;
    --ranks[d.site];
  }
  return ranks;
}

}  // namespace crayon::blend
