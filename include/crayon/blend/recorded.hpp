// SPDX-License-Identifier: MIT
// The blend that a pool was made for, as its file says.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool_info.hpp>
#include <crayon/blend/activations.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/simd/scalar.hpp>

namespace crayon::blend {

/// `linear` where the pool's info names it; `concat` where it names an exact blend or none. Another
/// name is an error.
template <kernel_backend B = simd::scalar>
struct recorded {
  [[nodiscard]] static constexpr std::string_view name() noexcept { return "recorded"; }

  /// The name of the policy that is used. Error: the pool's is none of those.
  [[nodiscard]] static result<std::string_view> policy(const adapter::pool_info& info) {
    if (info.blend == linear<B>::name()) return linear<B>::name();
    if (info.blend.empty() || info.blend == basic_concat<B>::name() ||
        info.blend == activations::name()) {
      return basic_concat<B>::name();
    }
    return error{errc::unsupported, "the pool was made for the blend \"" + info.blend +
                                        "\"; known are linear, concat and activations"};
  }

  template <interleaved_source P, executor_reference X = serial_executor>
  [[nodiscard]] static result<adapter::lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights, X&& threads = X{}) {
    CRAYON_TRY(const std::string_view chosen, policy(pool.info()));
    if (chosen == linear<B>::name()) return linear<B>::blend(pool, weights, threads);
    return basic_concat<B>::blend(pool, weights, threads);
  }
};
static_assert(blend_policy<recorded<>, adapter::pool<float>>);

}  // namespace crayon::blend
