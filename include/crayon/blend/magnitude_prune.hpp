// SPDX-License-Identifier: MIT
// The weighted sum of adapters' weight changes, each trimmed to its largest values. Needs Eigen.
#pragma once

#include <crayon/adapter/pool.hpp>
#include <crayon/blend/sparse.hpp>
#include <crayon/blend/sparse_cores.hpp>
#include <crayon/concepts.hpp>

namespace crayon::blend {

/// Of each adapter the values of largest magnitude are kept, a share of `density`. At density 1
/// this is the best adapter of its rank for the exact sum.
template <domain Domain = domain::core, kernel_backend B = simd::scalar>
using magnitude_prune = sparse<sparse_rule::magnitude_prune, Domain, B>;

template <kernel_backend B = simd::scalar>
using knots_magnitude_prune = sparse<sparse_rule::magnitude_prune, domain::aligned, B>;

static_assert(blend_policy<magnitude_prune<>, adapter::pool<float>>);
static_assert(blend_policy<knots_magnitude_prune<>, adapter::pool<float>>);

}  // namespace crayon::blend
