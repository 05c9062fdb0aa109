// SPDX-License-Identifier: MIT
#include <crayon/model/kv_cache.hpp>

#include "fixture.hpp"

TEST_CASE("every key and value of the cache has its own place", "[model]") {
  const auto config = small_config();
  crayon::model::kv_cache cache(config, 7);
  CHECK(cache.context() == 7);
  CHECK(cache.bytes() == 4 * config.layers * 2 * config.kv_heads * 7 * config.head_dim);
  float next = 1;
  const auto each = [&](auto&& visit) {
    for (std::size_t layer = 0; layer < config.layers; ++layer) {
      for (std::size_t head = 0; head < config.kv_heads; ++head) {
        for (auto m : {cache.keys(layer, head), cache.values(layer, head)}) {
          CHECK((m.rows == 7 && m.cols == config.head_dim && m.contiguous()));
          for (std::size_t i = 0; i < m.size(); ++i) visit(m.data[i]);
        }
      }
    }
  };
  each([&](float& x) { x = next++; });
  next = 1;
  bool intact = true;
  each([&](float& x) { intact &= x == next++; });
  CHECK(intact);
}
