// SPDX-License-Identifier: MIT
#include <crayon/engine/next_token.hpp>

#include <cstdint>
#include <span>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/model/sampler.hpp>
#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"

using namespace crayon;

// 100 is more than there is room for: then all logits are looked at.
TEST_CASE("a token drawn from the likeliest ones is the one that all logits give", "[engine]") {
  rng random(5);
  engine::next_token next;
  for (const std::size_t top_k : {0U, 1U, 5U, 64U, 65U, 100U}) {
    for (const float temperature : {0.0F, 1.3F}) {
      for (const float top_p : {1.0F, 0.6F}) {
        const model::sampling_options how{temperature, top_k, top_p};
        model::random_sampler short_way(how, 7), long_way(how, 7);
        for (int i = 0; i < 40; ++i) {
          std::vector<float> logits(300);
          for (float& x : logits) x = 3 * random.normal();
          (void)simd::scalar::summarize(logits.data(), logits.size(), next.likeliest(top_k));
          const auto token = next.draw(short_way, std::span<const float>(logits));
          REQUIRE(token == long_way(logits));
        }
      }
    }
  }
}
