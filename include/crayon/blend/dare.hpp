// SPDX-License-Identifier: MIT
// DARE (Yu et al. 2024) of weight changes: drop and rescale, alone or with ties. Needs Eigen.
#pragma once

#include <crayon/adapter/pool.hpp>
#include <crayon/blend/sparse.hpp>
#include <crayon/blend/sparse_cores.hpp>
#include <crayon/concepts.hpp>

namespace crayon::blend {

/// Each value of each adapter is dropped with probability 1 - density, the others are divided by
/// the density: the expectation over the seeds is the exact sum, the variance w^2 (1 - density) /
/// density times the squares of the values. What is dropped depends on the seed, the slot and the
/// module.
template <domain Domain = domain::core, kernel_backend B = simd::scalar>
using dare = sparse<sparse_rule::dare, Domain, B>;

/// With the election and disjoint merge of ties.hpp in place of the sum.
template <domain Domain = domain::core, kernel_backend B = simd::scalar>
using dare_ties = sparse<sparse_rule::dare_ties, Domain, B>;

template <kernel_backend B = simd::scalar>
using knots_dare = sparse<sparse_rule::dare, domain::aligned, B>;
/// KnOTS-DARE-TIES (Stoica et al. 2024).
template <kernel_backend B = simd::scalar>
using knots_dare_ties = sparse<sparse_rule::dare_ties, domain::aligned, B>;

static_assert(blend_policy<dare<>, adapter::pool<float>>);
static_assert(blend_policy<dare_ties<>, adapter::pool<f16>>);
static_assert(blend_policy<knots_dare<>, adapter::pool<float>>);
static_assert(blend_policy<knots_dare_ties<>, adapter::pool<float>>);

}  // namespace crayon::blend
