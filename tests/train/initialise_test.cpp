// SPDX-License-Identifier: MIT
#include <crayon/train/initialise.hpp>

#include <cmath>

#include "../catch.hpp"

using namespace crayon;

TEST_CASE("matrices have their spread, residual writers less, norms are one", "[train]") {
  const model::llama_config config{.dim = 64,
                                   .hidden = 96,
                                   .layers = 2,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .head_dim = 16,
                                   .vocab = 100,
                                   .context = 8};
  rng random(1);
  const auto weights = train::initial_weights(config, random);
  for (const auto& s : weights.shapes()) {
    INFO(s.name);
    if (s.norm) continue;
    double squares = 0;
    for (const float w : weights.matrices().subspan(s.offset, s.rows * s.cols)) {
      squares += double{w} * double{w};
    }
    const double deviation = std::sqrt(squares / static_cast<double>(s.rows * s.cols));
    const bool writes = s.name.find("o_proj") != s.name.npos || s.name.find("down") != s.name.npos;
    CHECK(deviation == Approx(writes ? 0.01 : 0.02).epsilon(0.1));
  }
  for (const float w : weights.norms()) REQUIRE(w == 1);
  rng same(1), other(2);
  CHECK(train::initial_weights(config, same).hash() == weights.hash());
  CHECK(train::initial_weights(config, other).hash() != weights.hash());
}
