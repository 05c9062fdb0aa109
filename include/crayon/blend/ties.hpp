// SPDX-License-Identifier: MIT
// Ties merging (Yadav et al. 2023) of weight changes: trim, elect sign, disjoint merge. Needs
// Eigen.
#pragma once

#include <crayon/adapter/pool.hpp>
#include <crayon/blend/sparse.hpp>
#include <crayon/blend/sparse_cores.hpp>
#include <crayon/concepts.hpp>

namespace crayon::blend {

/// Of each adapter the values of largest magnitude are kept, a share of `density`; each value gets
/// the sign of the (weighted) majority; those that have it are averaged, times the sum of the
/// weights. Fewer values in conflict, and none watered down by adapters that do not have it.
template <domain Domain = domain::core, kernel_backend B = simd::scalar>
using ties = sparse<sparse_rule::ties, Domain, B>;

/// KnOTS-TIES (Stoica et al. 2024). Their code trims over all layers at once, here each site has
/// its own threshold.
template <kernel_backend B = simd::scalar>
using knots_ties = sparse<sparse_rule::ties, domain::aligned, B>;

static_assert(blend_policy<ties<>, adapter::pool<float>>);
static_assert(blend_policy<knots_ties<>, adapter::pool<bf16>>);

}  // namespace crayon::blend
